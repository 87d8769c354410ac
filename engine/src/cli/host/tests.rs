use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

const EXAMPLE: &str = include_str!("../../../host.example.toml");

fn host(args: &[&str]) -> HostOptions {
    let arguments = [&["wormhole-engine", "host", "--state-dir", "/s"], args].concat();
    let Command::Host(args) = Cli::try_parse_from(arguments).unwrap().command else {
        panic!("another command");
    };
    args.options
}

fn resolved(args: &[&str]) -> HostConfig {
    host(args).resolve().unwrap().config
}

#[test]
fn folders_with_and_without_a_name() {
    let config = resolved(&["/srv/a", "b=/srv/x=y", "./c=d"]);
    let shares: Vec<_> =
        config.shares.iter().map(|s| (s.name.to_string(), s.root.to_str().unwrap())).collect();
    let expected = [("a", "/srv/a"), ("b", "/srv/x=y"), ("c=d", "./c=d")];
    assert_eq!(shares, expected.map(|(name, root)| (name.to_owned(), root)));
    assert!(matches!(host(&["/"]).resolve(), Err(CliError::Nameless { .. })));
    assert!(matches!(host(&[]).resolve(), Err(CliError::NoShare)));
    assert_eq!(resolved(&["files=/"]).shares[0].name.as_bytes(), b"files");
}

#[test]
fn patterns_for_all_shares_come_before_their_own() {
    let file = "[[share]]\npath = \"/a\"\nexclude = [\"!keep.tmp\"]\n[[share]]\npath = \"/b\"\ninclude = \"*.exr\"\n";
    let options = host(&["--exclude", "*.tmp", "--exclude", ".git"]).or(file::parse(file).unwrap());
    let shares = options.resolve().unwrap().config.shares;
    assert_eq!(shares[0].exclude, ["*.tmp", ".git", "!keep.tmp"]);
    assert_eq!(
        (&shares[1].exclude, &shares[1].include),
        (&vec!["*.tmp".into(), ".git".into()], &vec!["*.exr".into()])
    );
}

#[test]
fn addresses_to_listen_on() {
    let parse = |text: &str| text.parse::<Listen>();
    assert_eq!(parse("5000"), Ok(Listen::Port(5000)));
    assert_eq!(parse("10.0.0.1:9"), Ok(Listen::At("10.0.0.1:9".parse().unwrap())));
    assert_eq!(parse("10.0.0.1"), Ok(Listen::At("10.0.0.1:4433".parse().unwrap())));
    assert_eq!(parse("[::1]"), Ok(Listen::At("[::1]:4433".parse().unwrap())));
    assert_eq!(parse("::1"), Ok(Listen::At("[::1]:4433".parse().unwrap())));
    assert!(parse("70000").is_err());
    assert_eq!(resolved(&["/a", "--listen", "127.0.0.1:0"]).listen, ["127.0.0.1:0".parse().unwrap()]);
}

#[test]
fn what_is_typed_wins_over_the_file_key_by_key() {
    let file = "memory = \"32MiB\"\nlisten = [5000]\n[limits]\nmounts = 5\nrequests = 50\n[[share]]\npath = \"/a\"\n";
    let options = host(&["--memory", "16MiB", "--max-mounts", "7"]).or(file::parse(file).unwrap());
    let config = options.resolve().unwrap().config;
    assert_eq!((config.memory_bytes, config.limits.sessions_max), (16 << 20, 7));
    assert_eq!((config.limits.host_requests_max, config.listen[0].port()), (50, 5000));
    assert_eq!(config.shares[0].root, Path::new("/a"));
    let options = host(&["/b"]).or(file::parse(file).unwrap());
    assert_eq!(
        options.resolve().unwrap().config.shares[0].root,
        Path::new("/b"),
        "shares are not added to each other"
    );
}

#[test]
fn limits_follow_memory_and_each_other() {
    let limits = resolved(&["/a", "--memory", "8MiB"]).limits;
    assert_eq!((limits.host_answer_bytes_max, limits.answer_bytes_max), (6 << 20, 6 << 20));
    let limits =
        resolved(&["/a", "--max-mounts", "1000", "--bandwidth", "1Gbit/s", "--mount-bandwidth", "none"])
            .limits;
    assert!(limits.connections_max >= 1_000 + limits.strangers_max);
    assert_eq!(limits.host_bytes_per_s.map(std::num::NonZeroU64::get), Some(125_000_000));
    assert_eq!(limits.session_bytes_per_s, None);
    assert_eq!(resolved(&["/a", "--max-requests", "10"]).limits.requests_max, 10);
    assert_eq!(resolved(&["/a", "--max-requests", "10"]).validate(), Ok(()));
    assert!(resolved(&["/a", "--max-requests", "10", "--max-mount-requests", "11"]).validate().is_err());
    assert!(matches!(host(&["/a", "--max-bytes", "1GiB"]).resolve(), Err(CliError::MoreThanMemory { .. })));
}

#[test]
fn the_sample_shows_every_key() {
    let plain: HostOptions = file::parse(EXAMPLE).unwrap();
    assert_eq!(plain.share.len(), 1, "as it stands, it serves one folder");
    // A key that is commented out is one `# ` away.
    let all: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.split(' ').nth(1) == Some("=") || key.starts_with('[') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    file::parse::<HostOptions>(&all).unwrap().resolve().unwrap().config.validate().unwrap();
    let table: toml::de::DeValue<'_> =
        toml::de::DeValue::Table(toml::de::DeTable::parse(&all).unwrap().into_inner());
    let shows = |table: &toml::de::DeValue<'_>, keys: &[String]| {
        assert!(!keys.is_empty());
        for key in keys {
            assert!(table.get(key.as_str()).is_some(), "{key} is not in the sample");
        }
    };
    shows(&table, &file::keys::<HostOptions>(""));
    shows(table.get("limits").unwrap().get_ref(), &file::keys::<HostOptions>("[limits]"));
    let share = table.get("share").unwrap().get_ref().as_array().unwrap().iter().last().unwrap();
    shows(share.get_ref(), &file::keys::<HostOptions>("[[share]]"));
}

#[test]
fn keys_are_kept_where_the_user_expects_them() {
    let env = |pairs: &'static [(&str, &str)]| {
        move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value))
    };
    let dir = |pairs| default_state_dir(env(pairs)).map(|path| path.to_str().unwrap().to_owned());
    assert_eq!(dir(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]).unwrap(), "/x/wormhole");
    assert_eq!(dir(&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")]).unwrap(), "/h/.local/state/wormhole");
    let root = rustix::process::geteuid().is_root();
    assert_eq!(dir(&[]), root.then(|| "/var/lib/wormhole".to_owned()));
}
