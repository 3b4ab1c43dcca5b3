//! What the scanner must tell apart.

use super::*;

fn code(text: &str) -> String {
    let source = Source::new("x.rs", text);
    assert_eq!(source.code.len(), text.len());
    source.code
}

#[test]
fn comments_are_blank_and_lines_stay() {
    assert_eq!(code("a // b\nc /* d /* e\n */ f */ g"), "a     \nc          \n         g");
}

#[test]
fn strings_are_blank_between_their_quotes() {
    assert_eq!(code(r#"f("a\"//b", c)"#), r#"f("      ", c)"#);
    assert_eq!(code(r##"f(r#"a"b"#, b"x", br"y")"##), r##"f(r#"   "#, b" ", br" ")"##);
}

#[test]
fn characters_are_no_lifetimes() {
    assert_eq!(code(r#"f('"', '\'', '\u{2f}', 'é')"#), r#"f(' ', '  ', '      ', '  ')"#);
    assert_eq!(
        code("fn f<'a>(x: &'a str) -> &'static str"),
        "fn f<'a>(x: &'a str) -> &'static str"
    );
    assert_eq!(code("'outer: loop { break 'outer } // x"), "'outer: loop { break 'outer }     ");
}

#[test]
fn raw_names_are_code() {
    assert_eq!(code("r#type r#\"x\"#"), "r#type r#\" \"#");
}

#[test]
fn doc_lines_are_found_and_strings_hold_none() {
    let source =
        Source::new("x.rs", "//! head\n/// item\nfn f() { \"\n/// none\n\" }\n//// no\n// no");
    let docs: Vec<_> = source.docs.iter().map(|doc| (source.doc(doc), doc.inner)).collect();
    assert_eq!(docs, [("head", true), ("item", false)]);
}

#[test]
fn lines_count_from_one() {
    let source = Source::new("x.rs", "a\nb\nc");
    assert_eq!([source.line(0), source.line(1), source.line(2), source.line(4)], [1, 1, 2, 3]);
    assert_eq!(source.len(), 3);
}

#[test]
fn test_items_are_left_out() {
    let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() {} }\nfn c() {}";
    let code = Source::new("x.rs", text).code_outside_tests();
    assert!(code.contains("fn a") && code.contains("fn c") && !code.contains("fn b"));
    let kept = Source::new("x.rs", "#[cfg(any(test, fuzzing))] fn a() {}").code_outside_tests();
    assert!(kept.contains("fn a"));
    let gone = Source::new("x.rs", "#[cfg(all(test, unix))] fn a() {}").code_outside_tests();
    assert!(!gone.contains("fn a"));
}

#[test]
fn test_modules_are_named() {
    let source =
        Source::new("x.rs", "#[cfg(test)]\npub(crate) mod testing;\n#[cfg(test)] mod t {}");
    assert_eq!(source.test_modules(), ["testing"]);
}

#[test]
fn items_are_taken_apart() {
    let code = "#[inline] pub fn f(a: [u8; 4]) -> u8 where u8: Copy { a[0] } struct S;";
    let item = item_after(code, 0);
    assert_eq!(item.attributes.len(), 1);
    assert_eq!(&code[item.head], "pub fn f(a: [u8; 4]) -> u8 where u8: Copy ");
    assert_eq!(item.body.map(|body| &code[body]), Some(" a[0] "));
    assert_eq!(&code[item_after(code, item.end).head], "struct S");
}

#[test]
fn words_are_whole() {
    assert_eq!(find_word("unsafe_code unsafe", "unsafe").collect::<Vec<_>>(), [12]);
    assert_eq!(find_word("x.unwrap().unwrap_or()", ".unwrap()").collect::<Vec<_>>(), [1]);
}
