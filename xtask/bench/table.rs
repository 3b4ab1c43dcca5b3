//! A table for people, or lines for programs.

/// A figure with its name, and how large it may be.
pub struct Row {
    pub name: String,
    pub value: f64,
    pub budget: Option<f64>,
}

impl Row {
    pub fn new(name: String, value: f64, budget: Option<f64>) -> Self {
        Self { name, value, budget }
    }

    fn tsv(&self) -> String {
        let budget = self.budget.map_or_else(String::new, |budget| format!("<={budget}"));
        format!("{}\t{:.2}\t{budget}", self.name, self.value)
    }

    fn text(&self) -> String {
        let name = self.name.replace('/', " ");
        let Some(budget) = self.budget else { return format!("{name:40} {:9.2}", self.value) };
        let over = if self.value > budget { "  over" } else { "" };
        format!("{name:40} {:9.2}  <= {budget}{over}", self.value)
    }
}

/// Where results go.
pub struct Table {
    pub tsv: bool,
}

impl Table {
    /// A line over what follows.
    pub fn title(&self, title: &str) {
        if !self.tsv {
            println!("\n{title}");
        }
    }

    /// A figure.
    pub fn row(&self, row: &Row) {
        println!("{}", if self.tsv { row.tsv() } else { row.text() });
    }

    /// What explains the figure above, for people only.
    pub fn detail(&self, text: &str) {
        if !self.tsv {
            println!("    {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let row = Row::new("instructions/wire/32/send".to_owned(), 701.25, Some(700.0));
        assert_eq!(row.tsv(), "instructions/wire/32/send\t701.25\t<=700");
        assert!(row.text().starts_with("instructions wire 32 send "));
        assert!(row.text().ends_with("701.25  <= 700  over"));
        assert_eq!(Row::new("a".to_owned(), 1.0, None).tsv(), "a\t1.00\t");
    }
}
