//! The tags in the code: `linux: FILE:NAME` in a doc comment.

use super::rows::Row;
use crate::source::{Item, Source, closing, find_word, is_ident, item_after};

/// What may stand before a station's `walk!`: it decides who is watched, and as what.
const BEFORE_WALK: &[&str] = &["cx.watch(", "cx.enter_call(", "cx.context = "];

/// A tag and the item that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Our file.
    pub path: String,
    /// The doc line.
    pub line: usize,
    /// Linux's file.
    pub file: String,
    /// Linux's name.
    pub name: String,
    /// Other names by `#[doc(alias)]`.
    pub aliases: Vec<String>,
    /// The function behind the doc comment, by our name; `None` when something else follows.
    pub item: Option<String>,
    /// The station of the `walk!` that the function begins with.
    pub walk: Option<String>,
}

fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

impl Tag {
    /// The tag is that of a row's name.
    pub fn names(&self, row: &Row, file: &str, name: &str) -> bool {
        let ours = |own: &str| own == name || name.split(' ').next() == Some(own);
        // A knob has a path of its own, `net.core.rmem_max`; its last part is no suffix.
        let stems = file.contains('/') && row.kind != "knob";
        let place =
            row.kind == "members" || self.file == file || stems && stem(&self.file) == stem(file);
        place && (ours(&self.name) || self.aliases.iter().any(|alias| ours(alias)))
    }
}

/// All tags of a file.
pub fn of(source: &Source) -> Vec<Tag> {
    let mut tags = Vec::new();
    for doc in &source.docs {
        let Some(text) = source.doc(doc).strip_prefix("linux:") else { continue };
        let item = (!doc.inner).then(|| item_after(&source.code, doc.range.end));
        let aliases = item.as_ref().map_or_else(Vec::new, |item| aliases(source, item));
        let (name_of_fn, walk) = item.as_ref().map_or((None, None), |item| function(source, item));
        for (file, name) in pairs(text) {
            tags.push(Tag {
                path: source.path.clone(),
                line: source.line(doc.range.start),
                file,
                name,
                aliases: aliases.clone(),
                item: name_of_fn.clone(),
                walk: walk.clone(),
            });
        }
    }
    tags
}

/// `FILE:NAME` pairs of a tag's text; a file alone names nothing.
fn pairs(text: &str) -> Vec<(String, String)> {
    let end = text.find(". ").unwrap_or(text.len());
    let text = text[..end].trim().trim_end_matches('.');
    let mut file = None;
    let mut pairs = Vec::new();
    for piece in text.split([',', ';']) {
        let piece = piece[..piece.find(" (").unwrap_or(piece.len())].trim();
        if let Some((place, name)) = piece.split_once(':') {
            file = Some(place);
            pairs.push((place.to_owned(), name.trim().to_owned()));
        } else if let Some(file) = file
            && !piece.is_empty()
            && piece.chars().all(is_ident)
        {
            pairs.push((file.to_owned(), piece.to_owned()));
        }
    }
    pairs
}

fn aliases(source: &Source, item: &Item) -> Vec<String> {
    let mut found = Vec::new();
    for range in &item.attributes {
        if source.code[range.clone()].contains("alias") {
            // Every second piece stands between quotes.
            let text = source.text[range.clone()].split('"').skip(1).step_by(2);
            found.extend(text.map(str::to_owned));
        }
    }
    found
}

/// The function's name, and the station of the `walk!` it begins with.
fn function(source: &Source, item: &Item) -> (Option<String>, Option<String>) {
    let head = &source.code[item.head.clone()];
    let Some(at) = find_word(head, "fn").next() else { return (None, None) };
    let name: String = head[at + 2..].trim_start().chars().take_while(|c| is_ident(*c)).collect();
    let body = item.body.clone().map_or("", |body| &source.code[body]);
    (Some(name), first_walk(body))
}

/// A call that may sleep is a value: its station begins where it is polled.
const RESUMABLE: &str = "SockCall::new(move |cx, wait| {";

fn first_walk(body: &str) -> Option<String> {
    let mut body = body.trim_start();
    if let Some(at) = body.find(RESUMABLE) {
        body = body[at + RESUMABLE.len()..].trim_start();
    }
    while BEFORE_WALK.iter().any(|allowed| body.starts_with(allowed)) {
        body = body[body.find(';')? + 1..].trim_start();
    }
    let open = body.find('(')?;
    let called = body[..open].trim_end();
    if called != "walk!" && !called.ends_with("::walk!") || called.contains(char::is_whitespace) {
        return None;
    }
    let arguments = &body[open + 1..closing(body, open)?];
    let station = arguments.split("=>").next()?.rsplit(',').next()?.trim();
    Some(station.to_owned())
}
