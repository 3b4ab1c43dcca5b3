use super::*;

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["netkeel"], args].concat())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_complaint_is_one_line_with_the_remedy() {
    let error = parse(&["walk", "--format", "xml"]).expect_err("no such format");
    let line = one_line(&error);
    assert!(!line.contains('\n'), "{line}");
    assert!(line.starts_with("invalid value 'xml'") && line.contains("json"), "{line}");
}

#[test]
fn what_excludes_itself_is_refused() {
    assert!(parse(&["walk", "--stations", "--cpus", "2"]).is_err());
    assert!(parse(&["walk", "--stations", "--out", "f"]).is_ok());
    assert!(parse(&["walk", "--cpus", "65"]).is_err());
    assert!(parse(&["walk", "arp", "--format", "json", "--seed", "7"]).is_ok());
}

#[test]
fn usage_is_two_and_the_rest_one() {
    let queues = Failure::from(ScenarioError::Queues(Nic::Wire, 2));
    assert_eq!(queues.exit_code(), 2);
    assert_eq!(Failure::from(ScenarioError::Unfinished("it")).exit_code(), 1);
    for code in [1, 2] {
        assert_eq!(Failure::with_code(code, String::new()).exit_code(), code);
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    assert!(end_output(None, Err(ErrorKind::BrokenPipe.into())).is_ok());
    assert!(end_output(None, Err(ErrorKind::StorageFull.into())).is_err());
}

#[test]
fn every_command_has_examples() {
    let mut command = Cli::command();
    command.build();
    assert!(command.get_after_help().is_some());
    for sub in command.get_subcommands() {
        let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Examples:\n  "), "{}", sub.get_name());
        assert!(help.contains(&format!("netkeel {}", sub.get_name())), "{}", sub.get_name());
    }
}
