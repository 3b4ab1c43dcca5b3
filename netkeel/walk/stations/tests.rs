use super::*;

#[test]
fn every_point_is_listed_once_with_its_file() {
    let mut out = Vec::new();
    write(&mut out).expect("a vector takes all");
    let text = String::from_utf8(out).expect("names are ASCII");
    let mut lines: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("  "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let mut expected: Vec<Vec<&str>> =
        Point::ALL.iter().map(|point| vec![point.name(), point.file()]).collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn names_fit_their_column() {
    assert!(Point::ALL.iter().all(|point| point.name().len() < FILE_COLUMN));
}
