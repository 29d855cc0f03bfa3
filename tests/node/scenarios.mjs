// Runs the official Node SDK against a Waypost and prints one JSON object: scenario -> what came out.
//
// Usage: node scenarios.mjs BASE_URL DEAD_URL. It asserts nothing; tests/clients/test_node.py does.

import OpenAI from "openai";

const [base, dead] = process.argv.slice(2);
const client = new OpenAI({ apiKey: "sk-node", baseURL: `${base}/v1`, maxRetries: 0 });
const messages = [{ role: "user", content: "Help me write a python function to load data" }];

const failure = async (promise) => {
  try {
    await promise;
    return { name: "nothing was thrown" };
  } catch (e) {
    return { name: e.constructor.name, status: e.status, code: e.code, type: e.type, message: e.message };
  }
};

const scenarios = {
  async chat() {
    const { data, response } = await client.chat.completions.create({ model: "auto", messages }).withResponse();
    return {
      model: data.model,
      content: data.choices[0].message.content,
      usage: data.usage,
      decision: response.headers.get("x-waypost-decision-id"),
      label: response.headers.get("x-chosen-classifier"),
    };
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model: "task_router", messages, stream: true, stream_options: { include_usage: true },
    });
    let text = "", chunks = 0, usage = null, finish = null;
    for await (const chunk of stream) {
      chunks += 1;
      text += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    return { text, chunks, usage, finish };
  },
  async streamHelper() {
    const runner = client.chat.completions.stream({ model: "sim-small", messages });
    const parts = [];
    runner.on("content", (delta) => parts.push(delta));
    return { content: await runner.finalContent(), joined: parts.join("") };
  },
  async bodyObject() {
    const body = { policy: "task_router", routing_strategy: "manual", model: "Chatbot" };
    const { data, response } = await client.chat.completions
      .create({ model: "", messages, "nim-llm-router": body })
      .withResponse();
    return { model: data.model, label: response.headers.get("x-chosen-classifier") };
  },
  async header() {
    const { response } = await client.chat.completions
      .create({ model: "whatever", messages }, { headers: { "x-waypost-policy": "complexity_router" } })
      .withResponse();
    return { policy: response.headers.get("x-waypost-policy") };
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids, one: (await client.models.retrieve("sim-small")).id };
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: "sim-small", input: ["a b", "a c"] });
    return { vectors: answer.data.length, numbers: answer.data[0].embedding.every(Number.isFinite) };
  },
  async completions() {
    const answer = await client.completions.create({ model: "sim-small", prompt: "Once", max_tokens: 5 });
    return { text: answer.choices[0].text };
  },
  async responses() {
    const answer = await client.responses.create({ model: "sim-small", input: "Say something" });
    return { text: answer.output_text };
  },
  badRequest: () => failure(client.chat.completions.create({ model: "auto", messages: [] })),
  notFound: () => failure(client.chat.completions.create({ model: "no-such-model", messages })),
  rateLimit: () => failure(client.chat.completions.create({ model: "limited", messages })),
  serverError: () => failure(client.chat.completions.create({ model: "failing", messages })),
  unreachable: () => failure(client.chat.completions.create({ model: "dead", messages })),
  brokenStream: () =>
    failure(
      (async () => {
        const stream = await client.chat.completions.create({ model: "cutting", messages, stream: true });
        for await (const _ of stream);
      })(),
    ),
  timeout: () => failure(client.chat.completions.create({ model: "stalling", messages }, { timeout: 300 })),
  noConnection: () =>
    failure(new OpenAI({ apiKey: "k", baseURL: dead, maxRetries: 0 }).chat.completions.create({ model: "auto", messages })),
  async retried() {
    // The SDK's own retries work through Waypost: it repeats a 500, which Waypost hands on unrepeated.
    const patient = new OpenAI({ apiKey: "k", baseURL: `${base}/v1`, maxRetries: 2 });
    const answer = await patient.chat.completions.create({ model: "once", messages });
    return { content: answer.choices[0].message.content };
  },
};

const out = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    out[name] = await scenario();
  } catch (e) {
    out[name] = { thrown: String(e?.stack ?? e) };
  }
}
console.log(JSON.stringify(out));
