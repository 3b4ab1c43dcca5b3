//! The repository's files, read once.
//!
//! Invariant: paths are relative to the root, with `/`, in sorted order; build output, version
//! control and symbolic links are no part of it.

use crate::source::Source;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const SKIPPED: &[&str] = &["target", ".git", "node_modules"];

/// A checkout.
pub struct Tree {
    root: PathBuf,
    files: BTreeMap<String, Option<String>>,
    sources: Vec<Source>,
}

impl Tree {
    /// Reads everything under `root`.
    pub fn open(root: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        collect(root, "", &mut files)?;
        Ok(Self::build(root.to_owned(), files))
    }

    /// A tree of the given files, for tests.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| (path.to_string(), Some(text.to_string())));
        Self::build(PathBuf::new(), files.collect())
    }

    fn build(root: PathBuf, files: BTreeMap<String, Option<String>>) -> Self {
        let rust = files.iter().filter(|(path, _)| path.ends_with(".rs"));
        let sources =
            rust.filter_map(|(path, text)| Some(Source::new(path, text.as_deref()?))).collect();
        Self { root, files, sources }
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    /// The files that are text, with it.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text of one file; `None` when it does not exist or is no text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// A file or folder of that path exists.
    pub fn exists(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(p, _)| p.starts_with(&folder))
    }

    /// The Rust files.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Writes a generated file.
    pub fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let full = self.root.join(path);
        if let Some(folder) = full.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(full, text)
    }
}

fn collect(
    dir: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Option<String>>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        let path = format!("{prefix}{name}");
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && name != ".git" {
            files.insert(path, String::from_utf8(std::fs::read(entry.path())?).ok());
        }
    }
    Ok(())
}
