//! Texts on which two encoders of one tokenizer must agree before the fast one is trusted.
//!
//! Scripts, code, numbers, runs of white space, line ends, emoji, control characters, and the tokenizer's
//! own special tokens in every neighbourhood. Our own texts. Called once per load.

const PROSE: [&str; 22] = [
    "",
    " ",
    "a",
    "The router reads a prompt once, and then it knows.",
    "It's they'll we've I'm he'd DON'T won't ISN'T o'clock 'quoted' ’curly’s",
    "  two leading, two  inside, two trailing  ",
    "tabs\tand\t\ttabs \t mixed \t\t  end\t",
    "one\ntwo\n\nthree\n\n\nfour \n five\n  six\r\nseven\r\n\r\neight\rnine\n",
    "1 12 123 1234 12345 1,234,567.89 0x1F 3.14e-10 ½ ² ① ٣٤٥ १२३",
    "fn main() {\n    let x: Vec<u8> = b\"\\x00\\n\".to_vec(); // note\n\tif x.len() >= 2 && !x.is_empty() { return; }\n}",
    "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": [1, 2, 3]}}",
    "https://example.org/a/b?c=d&e=%20f#g  user.name+tag@example.org  C:\\dir\\file.txt",
    "Größe, façade, naïve, œuvre, İstanbul, ǅ, ﬁ ligature, e\u{301} and é, A\u{30a} and Å",
    "Ελληνικά και русский текст, українська ґ, қазақша, עברית שלום, العربية مرحبا",
    "中文的一段话,没有空格。日本語のテキスト、カタカナとひらがな。한국어 문장입니다.",
    "हिन्दी में एक वाक्य। ภาษาไทยไม่มีช่องว่าง தமிழ் ქართული አማርኛ",
    "😀👍🏽👩‍👩‍👧‍👦🇨🇭 emoji ❤️ and ✓ → ∑ ≤ € £ © ™ … — – “ ”",
    "zero\u{200b}width nb\u{a0}space \u{3000}wide \u{2028}line \u{85}next \u{feff}bom \u{0}nul \u{7f}del \u{b}vt",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA camelCaseWords HTTPServer snake_case_name XMLHttpRequest2",
    "!!! ??? ... ### *** --- ___ ~~~ ``` <<< >>> ((( ))) [[[ ]]] ;;; ,,, ''' \"\"\" \\\\\\ ///",
    "<|not_a_token|> <|im_start <im_end|> [INST [/INST] <s </s <<SYS>> ▁ under ▁▁ twice <0x0A>",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𒀀 \u{1f600}\u{fe0f} \u{e000} \u{fffd} \u{10ffff}",
];

/// Runs of white space of these lengths, in bytes.
const RUNS: [usize; 9] = [2, 3, 4, 7, 8, 16, 17, 33, 130];

/// All probes for a tokenizer with these added tokens.
pub(crate) fn texts(added: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = PROSE.iter().map(|&text| text.to_owned()).collect();
    for length in RUNS {
        for space in [" ", "\n", "\t", "\r\n", "\n ", "\u{3000}", "=", "é"] {
            let run = space.repeat(length);
            all.push(format!("word{run}word{run}"));
            all.push(format!("{run}1"));
        }
    }
    // Long pieces take another way through a merge loop than short ones.
    all.push("unbrokenwordwithoutanyspace".repeat(20));
    all.push("没有空格的长句子".repeat(60));
    let joined = PROSE.join("\n\n");
    for token in added {
        all.push((*token).to_owned());
        all.push(format!("a {token} b{token}c\n{token}\n\n{token}{token} 1"));
        all.push(format!(" {token}  {token} \t{token}!{token}  "));
    }
    all.push(added.concat());
    all.push(added.join(" x "));
    all.push(joined);
    all
}
