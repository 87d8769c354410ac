//! `help [TOPIC]`: the long help of a command, or a page that teaches one subject.

use std::fmt::Write;

use clap::{Args, Command};

use super::failure::Failure;

/// A page of help.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// The word that asks for it.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub about: &'static str,
    /// The page, in lines of 100 columns at most.
    pub text: &'static str,
}

/// `help`, as typed.
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command, a topic, or `topics` for a list of them
    #[arg(value_name = "TOPIC")]
    pub words: Vec<String>,
}

/// The word to ask for all topics by.
const LIST: &str = "topics";

/// What `help WORDS` shows.
///
/// # Errors
/// [`Failure::Usage`] when there is no such command or topic; it names the nearest.
pub fn help(mut program: Command, topics: &[Topic], args: &HelpArgs) -> Result<String, Failure> {
    // Settles the names under which the commands show themselves.
    program.build();
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let [first, rest @ ..] = words.as_slice() else {
        return Ok(program.render_long_help().to_string());
    };
    if *first == LIST {
        return Ok(list(program.get_name(), topics));
    }
    if let (Some(topic), []) = (topics.iter().find(|topic| topic.name == *first), rest) {
        // A command of the same name is one `--help` away.
        let command = program
            .find_subcommand(first)
            .map(|_| format!("\nThe options of the command: {} {first} --help\n", program.get_name()));
        return Ok(format!("{}{}", topic.text, command.unwrap_or_default()));
    }
    let name = program.get_name().to_owned();
    let mut command = &mut program;
    for word in words {
        let known: Vec<String> =
            names(command).chain(topics.iter().map(|topic| topic.name.to_owned())).collect();
        command = match command.find_subcommand_mut(word) {
            Some(command) => command,
            None => return Err(Failure::Usage(unknown(&name, word, &known))),
        };
    }
    Ok(command.render_long_help().to_string())
}

fn names(command: &Command) -> impl Iterator<Item = String> {
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
}

fn unknown(program: &str, word: &str, known: &[String]) -> String {
    match nearest(word, known.iter().map(String::as_str)) {
        Some(near) => format!("there is no help about {word:?}; did you mean `{program} help {near}`?"),
        None => format!("there is no help about {word:?}; `{program} help {LIST}` lists the topics"),
    }
}

/// The end of the short help of `program`.
pub fn pointer(program: &str) -> String {
    format!("`{program} help TOPIC` explains a subject; `{program} help {LIST}` lists them.")
}

/// The topics of `program` with what they are about, a line each.
pub fn list(program: &str, topics: &[Topic]) -> String {
    topics.iter().fold(format!("Topics of `{program} help`:\n"), |mut lines, topic| {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "  {:<16}{}", topic.name, topic.about);
        lines
    })
}

/// The known word that is most like `word`, if one is like it at all.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Of 1 for the same word; below it, a suggestion misleads.
    const LIKENESS_MIN: f64 = 0.75;
    known
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: &[Topic] = &[
        Topic { name: "limits", about: "what peers may use up", text: "All about limits.\n" },
        Topic { name: "serve", about: "serving", text: "All about serving.\n" },
    ];

    fn program() -> Command {
        let ticket = Command::new("ticket").subcommand(Command::new("revoke").about("Take one back"));
        Command::new("tool").subcommand(Command::new("serve").about("Serve it")).subcommand(ticket)
    }

    fn of(words: &[&str]) -> Result<String, String> {
        let args = HelpArgs { words: words.iter().map(|word| (*word).to_owned()).collect() };
        help(program(), TOPICS, &args).map_err(|failure| match failure {
            Failure::Usage(line) => line,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn topics_and_commands_are_found() {
        assert_eq!(of(&["limits"]).unwrap(), "All about limits.\n");
        assert!(of(&["serve"]).unwrap().ends_with("The options of the command: tool serve --help\n"));
        assert!(of(&["ticket", "revoke"]).unwrap().contains("Take one back"));
        assert!(of(&["ticket"]).unwrap().contains("tool ticket"));
        assert!(of(&[]).unwrap().contains("Serve it"));
        assert!(of(&["topics"]).unwrap().contains("  limits          what peers may use up\n"));
    }

    #[test]
    fn an_unknown_topic_suggests_the_nearest() {
        assert_eq!(
            of(&["limts"]).unwrap_err(),
            "there is no help about \"limts\"; did you mean `tool help limits`?"
        );
        assert!(of(&["zzz"]).unwrap_err().contains("tool help topics"));
        assert!(of(&["limits", "more"]).is_err());
    }
}
