//! What is read, what is left out, and how it is told.

use super::*;
use std::io::Write as _;

const FIELDS: Fields<'static> =
    Fields { text: "text", label: "label", source: Some("source"), source_is_wanted: false };

fn read(name: &str, bytes: &[u8]) -> Result<Table, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    let mut table = Table::default();
    table.read(&file, FIELDS).map(|()| table)
}

fn row(text: &str, label: &str, source: Option<&str>, line: usize) -> Row {
    Row { text: text.into(), label: label.into(), source: source.map(str::to_owned), line }
}

#[test]
fn json_lines_csv_and_gzip_give_the_same_rows() {
    let json =
        "\u{feff}{\"text\":\"a, b\",\"label\":\"x\",\"source\":\"s\"}\r\n\n{\"text\":\"c\\nd\",\"label\":7}";
    let rows = vec![row("a, b", "x", Some("s"), 1), row("c\nd", "7", None, 3)];
    assert_eq!(read("d.jsonl", json.as_bytes()).unwrap().rows, rows);
    assert_eq!(read("d.txt", json.as_bytes()).unwrap().rows, rows, "known by its first byte");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(json.as_bytes()).unwrap();
    assert_eq!(read("d.jsonl.gz", &gzip.finish().unwrap()).unwrap().rows, rows);
    let csv = "\u{feff}label,text,source\nx,\"a, b\",s\n7,\"c\nd\",\ny,e,t\n";
    let table = read("d.csv", csv.as_bytes()).unwrap();
    let csv_rows =
        vec![row("a, b", "x", Some("s"), 2), row("c\nd", "7", None, 3), row("e", "y", Some("t"), 5)];
    assert_eq!(table.rows, csv_rows);
}

#[test]
fn rows_that_cannot_be_used_are_named_with_line_and_reason() {
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    let endless = "y".repeat(MAX_LINE_BYTES + 1);
    let lines = [
        r#"{"text":"fine","label":"x"}"#,
        r#"{"text":"  ","label":"x"}"#,
        r#"{"text":"t"}"#,
        r#"{"text":"t","label":["x"]}"#,
        r#"{"text":"t","label":"#,
        r#"[1]"#,
        &format!(r#"{{"text":"{long}","label":"x"}}"#),
        &endless,
        r#"{"text":5,"label":"x"}"#,
        r#"{"text":"t","label":""}"#,
    ];
    let table = read("d.jsonl", lines.join("\n").as_bytes()).unwrap();
    assert_eq!((table.rows.len(), table.left_out.rows), (1, 9));
    let wanted = [
        ":2: 'text' is empty",
        ":3: no field 'label'",
        ":4: 'label' is a list, not a string or a number",
        ":5: not JSON: EOF while parsing a value at column",
        ":6: not a JSON object",
        ":7: 'text' has 262145 bytes",
        ":8: the line is longer than",
        ":9: 'text' is a number",
        ":10: 'label' is empty",
    ];
    for (reason, wanted) in table.left_out.reasons.iter().zip(wanted) {
        assert!(reason.contains(wanted), "{reason} / {wanted}");
    }
    let bad_csv = b"text,label\nfine,x\none\na,b,c\n\xff,x\n";
    let table = read("d.csv", bad_csv).unwrap();
    assert_eq!((table.rows.len(), table.left_out.rows), (1, 3));
    assert!(
        table.left_out.reasons[1].contains(":4: 3 fields, the header names 2"),
        "{:?}",
        table.left_out.reasons
    );
    assert!(table.left_out.reasons[2].contains("not UTF-8"));
}

#[test]
fn only_the_first_are_shown_and_the_rest_counted() {
    let lines = format!("{{\"text\":\"t\",\"label\":\"x\"}}\n{}", "no\n".repeat(50));
    let said = read("d.jsonl", lines.as_bytes()).unwrap().left_out.shown();
    assert!(said.starts_with("50 rows left out") && said.ends_with("and 30 more\n"), "{said}");
}

#[test]
fn what_is_wrong_with_a_whole_file_is_said_at_once() {
    let said = |name: &str, bytes: &[u8]| read(name, bytes).unwrap_err().to_string();
    let missing = said("d.jsonl", b"{\"text\":\"t\",\"intent\":\"x\"}\n");
    assert!(
        missing.contains("no field 'label'; its fields are: intent, text. Choose one with --label-field")
    );
    assert!(said("d.csv", b"prompt,label\nt,x\n").contains("no field 'text'; its fields are: label, prompt"));
    assert!(said("d.csv", b"text,label,text\nt,x,u\n").contains("two columns are called 'text'"));
    assert!(said("d.jsonl", b"").contains("holds no rows"));
    assert!(said("d.csv", b"text,label\n").contains("holds no rows"));
    assert!(said("d.json", b"[{\"text\":1}]").contains("JSON array"));
    assert!(said("d.jsonl", b"{\"text\":\"\",\"label\":\"x\"}").contains("no row can be used"));
    let open = format!("text,label\na,x\n\"b,{}", "y\n".repeat(MAX_LINE_BYTES));
    assert!(said("d.csv", open.as_bytes()).contains("the record at line 3 is longer"));
    let mut table = Table::default();
    let error = table.read(Path::new("/no/such/file"), FIELDS).unwrap_err().to_string();
    assert!(error.starts_with("/no/such/file: "), "{error}");
}

#[test]
fn an_open_quotation_mark_is_told_and_nothing_is_learnt_from_the_rest() {
    let rows = "a,x\nb,y\n".repeat(50);
    for (csv, line) in [
        (format!("text,label\n{rows}\"c,x\n{rows}"), "line 102"),
        (format!("label,text\n{rows}x,\"c\n{rows}"), "line 102"),
    ] {
        let said = read("d.csv", csv.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(line) && said.contains("quotation mark left open"), "{said}");
    }
    let inch = read("d.csv", b"text,label\na 5\" pipe,x\n\"two\nlines\",y\n").unwrap();
    assert_eq!(inch.rows.len(), 2, "a lone mark inside a field is a mark");
    let said = read("d.csv", b"text;label\na;x\n").unwrap_err().to_string();
    assert!(said.contains("commas"), "{said}");
}
