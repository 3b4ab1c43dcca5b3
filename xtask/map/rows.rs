//! The rows of the map.

/// A row: a station, or several that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `rx` or `tx`.
    pub dir: String,
    /// The stage of the walk.
    pub stage: String,
    /// The name, the names, or a phrase.
    pub station: String,
    /// `fn`, `struct`, `table`, `trait`, `enum`, `hook`, `knob`, `members`.
    pub kind: String,
    /// Where it stands in Linux, with the line.
    pub place: String,
    /// What it must do.
    pub what: String,
    /// `walk`, `tcp` or `map`: the part of the work it comes with.
    pub part: String,
}

/// The file of a place: without the line.
fn file(place: &str) -> &str {
    match place.rsplit_once(':') {
        Some((file, line)) if line.bytes().all(|b| b.is_ascii_digit()) => file,
        _ => place,
    }
}

impl Row {
    /// Each name of the row with its file.
    pub fn names(&self) -> Vec<(&str, &str)> {
        let names: Vec<&str> = if self.kind == "members" {
            self.station.split(' ').collect()
        } else {
            self.station.split(", ").collect()
        };
        let places: Vec<&str> = self.place.split(", ").map(file).collect();
        let at = |index: usize| places.get(index).or(places.last()).copied().unwrap_or_default();
        names.into_iter().enumerate().map(|(index, name)| (at(index), name)).collect()
    }
}

/// All rows; `Err` is a line and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Row>, (usize, String)> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    let row = |(at, line): (usize, &str)| {
        let columns: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let count = columns.len();
        let columns: [String; 7] = columns
            .try_into()
            .map_err(|_| (at + 1, format!("{count} columns, expected 7 with a tab between")))?;
        let [dir, stage, station, kind, place, what, part] = columns;
        Ok(Row { dir, stage, station, kind, place, what, part })
    };
    lines.filter(|(_, line)| !line.is_empty()).map(row).collect()
}
