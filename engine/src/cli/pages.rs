//! Completions for shells and pages for man(1), made from the definition that reads the command line.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{
    Args, Command,
    builder::{PossibleValue, PossibleValuesParser},
};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use super::topics::Topic;

/// Where the scripts go.
pub const COMPLETIONS_EXAMPLES: &str = "\
Examples, for a program called PROGRAM:
  PROGRAM completions bash > ~/.local/share/bash-completion/completions/PROGRAM
  PROGRAM completions zsh > ~/.zfunc/_PROGRAM           a folder of $fpath
  PROGRAM completions fish > ~/.config/fish/completions/PROGRAM.fish";

/// `completions`, as typed.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `man`, as typed.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command and topic into this folder, instead of the program's own page to stdout
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints what `shell` needs to complete the program's arguments.
///
/// # Errors
/// When standard output is closed.
pub fn completions(program: Command, topics: &[Topic], args: &CompletionsArgs) -> anyhow::Result<()> {
    let name = program.get_name().to_owned();
    // Commands complete themselves; `help` takes topics, too.
    let words = PossibleValuesParser::new(topics.iter().map(|topic| PossibleValue::new(topic.name)));
    let mut program =
        program.mut_subcommand("help", |help| help.mut_arg("words", |argument| argument.value_parser(words)));
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    print(&script)
}

/// Prints the program's page, or writes the pages of all commands and topics.
///
/// # Errors
/// When a page cannot be written.
pub fn man(mut program: Command, topics: &[Topic], args: &ManArgs) -> anyhow::Result<()> {
    program.build();
    let Some(folder) = &args.out else {
        return print(&page(&program, topics)?);
    };
    fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    write_pages(&program, topics, folder)?;
    let name = program.get_name();
    for topic in topics {
        let path = folder.join(format!("{name}-help-{}.1", topic.name));
        write(&path, topic_page(name, topic).as_bytes())?;
    }
    Ok(())
}

/// The pages of a command and of those below it; as deep as commands are nested.
fn write_pages(command: &Command, topics: &[Topic], folder: &Path) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    write(&folder.join(format!("{name}.1")), &page(command, topics)?)?;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_pages(inner, &[], folder)?;
    }
    Ok(())
}

fn page(command: &Command, topics: &[Topic]) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    let name = command.get_name();
    let mut more = Roff::new();
    if !topics.is_empty() {
        more.control("SH", ["TOPICS"]);
        for topic in topics {
            more.control("TP", []);
            more.text([roman(format!("{name}-help-{}(1)", topic.name))]);
            more.text([roman(topic.about)]);
        }
    }
    more.to_writer(&mut page)?;
    Ok(page)
}

/// A topic as a page, its lines as they are.
fn topic_page(program: &str, topic: &Topic) -> String {
    let title = format!("{program}-help-{}", topic.name);
    let mut page = Roff::new();
    page.control("TH", [title.as_str(), "1"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{title} - {}", topic.about))]);
    page.control("SH", ["DESCRIPTION"]);
    page.control("nf", []);
    for line in topic.text.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.to_roff()
}

fn write(path: &Path, page: &[u8]) -> anyhow::Result<()> {
    fs::write(path, page).with_context(|| format!("the page {} cannot be written", path.display()))
}

/// Prints `text`; a reader that has seen enough is no failure.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}
