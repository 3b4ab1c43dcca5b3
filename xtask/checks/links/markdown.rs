//! As much of Markdown as links and headings need.

/// A link.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// Line, from 1.
    pub line: usize,
    /// As written.
    pub target: String,
}

/// The lines outside fenced code, numbered from 1, with inline code blanked.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fence: Option<String> = None;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let mark = trimmed.chars().next().filter(|c| "`~".contains(*c));
        let run: String = trimmed.chars().take_while(|c| Some(*c) == mark).collect();
        match &fence {
            Some(open) if run.starts_with(open.as_str()) => fence = None,
            Some(_) => {}
            None if run.len() >= 3 => fence = Some(run),
            None => lines.push((at + 1, line.to_owned())),
        }
    }
    lines
}

fn without_code(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(open) = rest.find('`') {
        let ticks = rest[open..].chars().take_while(|c| *c == '`').count();
        let Some(close) = rest[open + ticks..].find(&"`".repeat(ticks)) else { break };
        out.push_str(&rest[..open]);
        rest = &rest[open + ticks + close + ticks..];
    }
    out + rest
}

/// Links, images, reference definitions, and `href` and `src` of HTML.
pub fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let content = without_code(&content);
        let mut add = |target: &str| {
            let target = target.split_whitespace().next().unwrap_or_default();
            let target = target.trim_matches(['<', '>']).to_owned();
            found.push(Link { line, target });
        };
        for (at, _) in content.match_indices("](") {
            let rest = &content[at + 2..];
            add(&rest[..rest.find(')').unwrap_or(rest.len())]);
        }
        for mark in ["href=\"", "src=\""] {
            for (at, _) in content.match_indices(mark) {
                let rest = &content[at + mark.len()..];
                add(&rest[..rest.find('"').unwrap_or(rest.len())]);
            }
        }
        let definition = content.trim_start().strip_prefix('[').and_then(|c| c.split_once("]: "));
        if let Some((label, target)) = definition
            && !label.starts_with("^")
            && !label.contains(']')
        {
            add(target);
        }
    }
    found
}

/// The names by which headings and `<a id>` can be linked.
pub fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        for mark in ["id=\"", "name=\""] {
            for (at, _) in line.match_indices(mark) {
                let rest = &line[at + mark.len()..];
                found.push(rest[..rest.find('"').unwrap_or(rest.len())].to_owned());
            }
        }
        let level = line.chars().take_while(|c| *c == '#').count();
        if !(1..=6).contains(&level) || !line[level..].starts_with(' ') {
            continue;
        }
        let slug = slug(&line[level..]);
        let again = (1..).map(|n| format!("{slug}-{n}"));
        let mut names = std::iter::once(slug.clone()).chain(again);
        if let Some(name) = names.find(|name| !found.contains(name)) {
            found.push(name);
        }
    }
    found
}

fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading.trim();
    // Of a link only its text counts.
    while let Some(at) = rest.find("](") {
        text.push_str(&rest[..at]);
        let end = rest[at..].find(')').map_or(rest.len(), |len| at + len + 1);
        rest = &rest[end..];
    }
    text.push_str(rest);
    let kept = text.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_every_form() {
        let text = "[a](x.md \"title\") ![b](<y.png>)\n[c]: z.md\n<img src=\"i.svg\">\n``[d](no)``";
        let targets: Vec<_> =
            links(text).into_iter().map(|link| (link.line, link.target)).collect();
        let expected = [(1, "x.md"), (1, "y.png"), (2, "z.md"), (3, "i.svg")];
        assert_eq!(targets, expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn anchors_as_forges_make_them() {
        let text = "# The `walk`, off\n## [Link](x) here\n## Same\n## Same\n```\n# no\n```\n<a id=\"own\">";
        assert_eq!(anchors(text), ["the-walk-off", "link-here", "same", "same-1", "own"]);
        assert_eq!(anchors("## 包的路径"), ["包的路径"]);
    }
}
