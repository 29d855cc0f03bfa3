"""Writes what Hugging Face `transformers` makes of our requests: cases.json and two small tokenizers.

Run it by hand where transformers, tokenizers and jinja2 are installed (no torch): python make.py
The templates are our own, in the shapes of well-known ones. What vLLM does to a request before it renders
(arguments to objects, tools with all fields) is done here by hand, in `seen`.
"""

import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
TEXT = [
    "The router asks which model should answer, and which replica of it holds the prefix.",
    "What is the weather in Zürich today? It's 21 degrees and sunny, they'll say.",
    'fn main() {\n    let x = vec![1, 2, 3];\n    println!("{x:?}");\n}\n',
    "Wie heißt die Hauptstadt der Schweiz? Bern, nicht Zürich. Größe zählt nicht.",
    "日本語の文章です。中文也可以。Русский текст и ελληνικά. 😀🇨🇭",
    '{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}',
] * 20
SPECIALS = [
    "<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>", "<|header|>", "<|/header|>", "<|eot|>",
    "<tool_call>", "</tool_call>", "<think>", "</think>",
]
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] + '\\n\\n' }}
    {%- endif %}
    {{- 'Tools:' }}
    {%- for tool in tools %}
        {{- '\\n' }}{{ tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{% for message in messages %}
    {% if message.role != 'system' or not tools %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

HEADERS = """{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|header|>system<|/header|>\\n\\n' + system + '<|eot|>' }}
{%- if tools is not none %}
    {{- '<|header|>tools<|/header|>\\n\\n' + (tools | tojson(indent=4)) + '<|eot|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant', 'tool'] %}{{ raise_exception('who is ' + message.role) }}{% endif %}
    {%- if message.tool_calls is defined and message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|header|>assistant<|/header|>\\n\\n{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}<|eot|>' }}
    {%- else %}
        {{- '<|header|>' + message['role'] + '<|/header|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|header|>assistant<|/header|>\\n\\n' }}{%- endif %}"""

INST = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set before = '<<SYS>>\\n' ~ messages[0]['content'].strip() ~ '\\n<</SYS>>\\n\\n' %}{% else %}{% set rest = messages %}{% set before = '' %}{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' ~ (before if loop.first else '') ~ message['content'].strip() ~ ' [/INST]' }}{% else %}{{ ' ' ~ message['content'].strip() ~ ' ' ~ eos_token }}{% endif %}{% endfor %}"""

QWENISH = """{%- macro shown(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for item in content %}
            {%- if item.type == 'image' or 'image_url' in item %}<|header|>{% elif 'text' in item %}{{ item.text }}{% endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == 'user' %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = shown(message.content) %}
    {%- if message.role == 'user' or message.role == 'system' %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
        {%- if loop.index0 > ns.last and reasoning %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}
            {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
            {%- for key, value in call.arguments.items() %}{{- '|' + key + '=' }}{{- value }}{%- endfor %}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
        {%- endgeneration %}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
    {%- if documents and loop.first %}{% for doc in documents %}{{- '[' ~ loop.index ~ '] ' ~ doc.title | upper ~ '\\n' }}{% endfor %}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Wetter für \"heute\"",
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}},
                    "required": ["city"]}, "strict": True}},
    {"function": {"parameters": {}, "name": "now"}, "type": "function"},
]
SYSTEM = {"role": "system", "content": "  You are brief.\n"}
USER = {"role": "user", "content": "What's the weather in Zürich?\n\n  Two spaces.  "}
SAID = {"role": "assistant", "content": "It's 21 degrees. "}
MORE = {"role": "user", "content": "日本語でもう一度。 <|im_end|> and <|eot|> are text here 😀"}
CALLS = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "call_1", "type": "function", "function": {"name": "get_weather",
     "arguments": "{\"city\": \"Z\\u00fcrich\", \"days\": 2, \"wind\": 1e-7, \"big\": 1e22, \"pi\": 3.10, \"deep\": {\"b\": [], \"a\": {}, \"n\": null, \"t\": true, \"s\": \"it's \\n ü\"}}"}}]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "{\"temp\": 21}"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "First part."}, {"type": "text", "text": "Second part."}]}

CASES = [
    ("chatml", {"messages": [SYSTEM, USER]}),
    ("chatml", {"messages": [SYSTEM, USER, SAID, MORE], "tools": TOOLS}),
    ("chatml", {"messages": [USER, SAID], "add_generation_prompt": False}),
    ("chatml", {"messages": [USER, SAID], "add_generation_prompt": False, "continue_final_message": True}),
    ("chatml", {"messages": [PARTS]}),
    ("headers", {"messages": [SYSTEM, USER, SAID, MORE]}),
    ("headers", {"messages": [USER, CALLS, RESULT], "tools": TOOLS}),
    ("headers", {"messages": [USER, SAID], "add_generation_prompt": False, "continue_final_message": True}),
    ("headers", {"messages": [{"role": "critic", "content": "no"}]}),
    ("inst", {"messages": [SYSTEM, USER, SAID, MORE]}),
    ("inst", {"messages": [USER]}),
    ("inst", {"messages": [USER, SAID, USER, SAID, PARTS]}),
    ("inst", {"messages": [USER, USER]}),
    ("qwenish", {"messages": [SYSTEM, USER, CALLS, RESULT, RESULT], "tools": TOOLS}),
    ("qwenish", {"messages": [USER], "chat_template_kwargs": {"enable_thinking": False}}),
    ("qwenish", {"messages": [USER, {"role": "assistant", "reasoning_content": "hm, 21", "content": "<b>21</b>"}]}),
    ("qwenish", {"messages": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}, MORE, CALLS]}),
    ("qwenish", {"messages": [PARTS], "documents": [{"title": "größe"}, {"title": "b"}]}),
]
TEMPLATES = {"chatml": CHATML, "headers": HEADERS, "inst": INST, "qwenish": QWENISH}


def byte_level():
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.normalizer = normalizers.NFC()
    from tokenizers import Regex
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(TEXT, trainer)
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIALS])
    bos = tok.token_to_id("<|begin|>")
    tok.post_processor = processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", bos)])
    return tok, "<|begin|>", "<|end|>"


def sentence_piece():
    tok = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=specials, show_progress=False, limit_alphabet=90)
    words = [w if i == 0 else w for t in TEXT for i, w in enumerate(t.split(" "))]
    tok.train_from_iterator(words, trainer)
    raw = json.loads(tok.to_str())
    raw["added_tokens"] = [dict(t, normalized=False) for t in raw["added_tokens"] if t["id"] < 3]
    tok = Tokenizer.from_str(json.dumps(raw))
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return tok, "<s>", "</s>"


def seen(request):
    """The request as the template sees it."""
    messages = json.loads(json.dumps(request["messages"]))
    for message in messages:
        message["content"] = message["content"] if message["content"] is not None else ""
        if isinstance(message["content"], list):
            message["content"] = "\n".join(p["text"] for p in message["content"])
        for call in message.get("tool_calls", []):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    tools = None
    if request.get("tools"):
        tools = []
        for tool in request["tools"]:
            function = tool["function"]
            shown = {k: function.get(k) for k in ("name", "description", "parameters")}
            tools.append({"type": "function", "function": shown | function})
    return messages, tools


def main():
    made = {"byte_level": byte_level(), "sentence_piece": sentence_piece()}
    for name, (tok, _, _) in made.items():
        (HERE / f"{name}.json").write_text(tok.to_str(), encoding="utf-8")
    cases = []
    for shape, request in CASES:
        name = "sentence_piece" if shape == "inst" else "byte_level"
        tok, bos, eos = made[name]
        fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=bos, eos_token=eos)
        messages, tools = seen(request)
        if shape == "qwenish":  # walks over parts, so vLLM hands it parts
            for message, came in zip(messages, request["messages"]):
                text = came["content"]
                message["content"] = text if isinstance(text, list) else [] if text is None else [{"type": "text", "text": text}]
        case = {"template": shape, "tokenizer": name, "request": json.dumps(request, ensure_ascii=False)}
        try:
            text = fast.apply_chat_template(
                messages, tools=tools, documents=request.get("documents"), chat_template=TEMPLATES[shape], tokenize=False,
                add_generation_prompt=request.get("add_generation_prompt", True),
                continue_final_message=request.get("continue_final_message", False),
                **request.get("chat_template_kwargs", {}))
            case |= {"text": text, "ids": fast.encode(text, add_special_tokens=False)}
        except Exception as e:  # the template refuses
            case["refused"] = str(e).splitlines()[0][:80]
        cases.append(case)
    completions = []
    for name, (tok, _, _) in made.items():
        for prompt in ["", "The router.", "  Zürich\n\n日本 <|eot|></s> x", TEXT[2]]:
            completions.append({"tokenizer": name, "prompt": prompt, "ids": tok.encode(prompt).ids})
    out = {"templates": TEMPLATES, "specials": {n: m[1:] for n, m in made.items()}, "cases": cases, "completions": completions}
    (HERE / "cases.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


main()
