//! The few things the checks want to know of a `Cargo.toml`.

/// A manifest's line in its section.
struct Line<'a> {
    number: usize,
    section: &'a str,
    key: &'a str,
    value: &'a str,
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut section = "";
    text.lines().enumerate().filter_map(move |(at, line)| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']);
            return Some(Line { number: at + 1, section, key: "", value: "" });
        }
        let (key, value) = line.split_once('=')?;
        let plain = !line.starts_with('#');
        plain.then(|| Line { number: at + 1, section, key: key.trim(), value: value.trim() })
    })
}

/// A key of `[package]`, without quotes; `key.workspace = true` counts as `workspace`.
pub fn package<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    lines(text).filter(|line| line.section == "package").find_map(|line| {
        if line.key == key {
            return Some(line.value.trim_matches('"'));
        }
        (line.key.strip_suffix(".workspace") == Some(key)).then_some("workspace")
    })
}

/// The packages a build depends on (tests' own excepted), each with its line.
pub fn dependencies(text: &str) -> Vec<(usize, &str)> {
    let kinds = ["dependencies", "build-dependencies"];
    let mut found: Vec<(usize, &str)> = Vec::new();
    for line in lines(text) {
        let name = if kinds.iter().any(|kind| {
            line.section == *kind
                || line.section.starts_with("target.")
                    && line.section.ends_with(&format!(".{kind}"))
        }) {
            line.key.split('.').next().unwrap_or_default()
        } else if line.key.is_empty() {
            // `[dependencies.name]`: the section names the package.
            let of = |kind: &&str| line.section.strip_prefix(&format!("{kind}."));
            kinds.iter().find_map(of).unwrap_or_default()
        } else {
            ""
        };
        if !name.is_empty() {
            found.push((line.number, name.trim_matches('"')));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[package]\nname = \"a\"\nedition.workspace = true\n[dependencies]\n\
        stack.workspace = true\n# no = \"1\"\nlibc = \"1\"\n[dev-dependencies]\nsim = \"1\"\n\
        [target.'cfg(unix)'.dependencies]\nhost = { path = \"x\" }\n[dependencies.hw]\npath = \"y\"\n";

    #[test]
    fn package_keys() {
        assert_eq!(package(TEXT, "name"), Some("a"));
        assert_eq!(package(TEXT, "edition"), Some("workspace"));
        assert_eq!(package(TEXT, "description"), None);
    }

    #[test]
    fn dependencies_of_builds() {
        assert_eq!(dependencies(TEXT), [(5, "stack"), (7, "libc"), (11, "host"), (12, "hw")]);
    }
}
