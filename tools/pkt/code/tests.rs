use super::*;

fn run(text: &str) -> Result<Env, String> {
    let mut env = Env::new();
    env.insert("tcpi_snd_cwnd".into(), Value::Int(10));
    env.insert("tcpi_rtt".into(), Value::Int(100_000));
    Program::parse(text)?.run(&mut env)?;
    Ok(env)
}

fn holds(text: &str) {
    run(&format!("assert {text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
}

fn fails(text: &str) -> String {
    run(text).map(|env| panic!("{text}: {env:?}")).unwrap_err()
}

#[test]
fn operators_as_python_has_them() {
    for text in [
        "tcpi_snd_cwnd == 10",
        "tcpi_snd_cwnd == 10, tcpi_snd_cwnd",
        "tcpi_snd_cwnd == 10, 'cwnd=%d' % tcpi_snd_cwnd",
        "1 < 2 < 3 and not 1 < 3 < 2",
        "-7 // 2 == -4 and -7 % 3 == 2 and 7 % -3 == -2 and 7 // -2 == -4 and -7 // -2 == 3",
        "7 / 2 == 3.5 and 2 ** 10 == 1024 and -2 ** 2 == -4",
        "1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and 1 << 4 | 1 == 17",
        "(1 << 4 | 1) == 17 and 0x1f & 3 == 3 and 5 ^ 1 == 4 and ~0 == -1",
        "tcpi_rtt in (1, 100000) and 3 not in [1, 2] and 'a' in 'cat'",
        "(1, 2) == (1, 2) and (1, 2) != (1, 3)",
        "abs(-3) == 3 and min(3, 1, 2) == 1 and max([1, 5, 2]) == 5 and int(2.9) == 2",
        "(1 if tcpi_rtt > 5 else 2) == 1 and [4, 5][-1] == 5 and len((1, 2)) == 2",
        "100 <= tcpi_rtt and True and None is None and 1 is not None",
        "'%s is %5.2f of %d%%' % ('a', 1, 3) == 'a is 1.000000 of 3%'",
    ] {
        holds(text);
    }
}

#[test]
fn compound_statements_and_lines() {
    let env = run("\na = tcpi_snd_cwnd + 1; b = (a,\n  2)\n\
                   if a > 100:\n    c = 1\nelif a == 11:\n    c = 2\n    d = 3\nelse:\n    c = 4\n\
                   a += 1\nprint(a)\nprint a # old\nassert c == 2 and d == 3 and a == 12\n")
    .unwrap();
    assert_eq!(env["b"].to_string(), "(11, 2)");
    run("if 1 == 1: x = 1\nassert x == 1").unwrap();
}

#[test]
fn a_failure_names_the_values() {
    let error = fails("assert tcpi_snd_cwnd == 11, 'cwnd is %d' % tcpi_snd_cwnd");
    assert!(error.contains("cwnd is 10") && error.contains("tcpi_snd_cwnd = 10"), "{error}");
}

#[test]
fn what_is_not_understood_is_named() {
    for (text, names) in [
        ("assert nothing == 1", "nothing"),
        ("assert foo(1)", "foo()"),
        ("assert 1 +", "value"),
        ("assert 1 1", "not understood"),
        ("assert (1", "not closed"),
        ("assert 'a", "not closed"),
        ("assert 1 / 0", "zero"),
        ("assert 1 // 0", "can't be computed"),
        ("assert 1 << 1000", "can't be computed"),
        ("assert 'a' < 1", "no order"),
        ("for x in y: pass", "not"),
        ("if 1 == 1:", "nothing stands"),
        ("assert 1 ? 2", "`?`"),
    ] {
        let error = fails(text);
        assert!(error.contains(names), "{text}: {error}");
    }
    assert!(fails(&"(".repeat(10_000)).contains("not closed"));
    let deep = format!("assert {}1{}", "(".repeat(200), ")".repeat(200));
    assert!(fails(&deep).contains("64"));
    assert!(fails(&format!("assert {}1", "-".repeat(200))).contains("64"));
    for long in ["(", "-", "1 or ", "not "] {
        let text = format!(
            "assert {}1{}",
            long.repeat(10_000),
            ")".repeat(if long == "(" { 10_000 } else { 0 })
        );
        assert!(fails(&text).contains("512"), "{long}");
    }
    assert!(fails("a = 2 ** 126 * 2").contains("can't be computed"));
    assert!(fails("a = -2 ** 126 - 2 ** 126\nb = -a").contains("can't be computed"));
    assert!(fails("a = -2 ** 126 - 2 ** 126\nb = abs(a)").contains("can't be computed"));
}
