//! How a command fails, and what its caller sees: one line, and an exit code.

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{
    CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// What was asked makes no sense: exit code 2.
    Usage(String),
    /// It could not be done: exit code 1.
    Failed(anyhow::Error),
    /// It could not be done, and that has been said: exit code 1.
    Said,
}

impl<E> From<E> for Failure
where
    anyhow::Error: From<E>,
{
    fn from(error: E) -> Failure {
        Failure::Failed(error.into())
    }
}

impl Failure {
    /// Says it on standard error, in one line of `program`.
    pub fn report(&self, program: &str) -> ExitCode {
        let (line, code) = match self {
            Failure::Usage(line) => (line.clone(), ExitCode::from(2)),
            Failure::Failed(error) => (one_line(error), ExitCode::FAILURE),
            Failure::Said => return ExitCode::FAILURE,
        };
        // A closed stderr leaves nobody to tell.
        let _ = writeln!(std::io::stderr(), "{program}: {}", line.replace('\n', " "));
        code
    }
}

/// The chain of reasons in one line; a reason that its predecessor quotes is not said twice.
pub fn one_line(error: &anyhow::Error) -> String {
    crate::error::one_line(error.as_ref())
}

/// Reads the arguments, the program's own name first; the environment fills in where they are silent. Prints help and
/// ends the process where that is what was asked for.
///
/// # Errors
/// [`Failure::Usage`] about a value that an option does not take: `OPTION: REASON` or `VARIABLE: REASON`.
pub fn parse<C: CommandFactory + FromArgMatches>(arguments: &[OsString]) -> Result<C, Failure> {
    let parsed =
        C::command().try_get_matches_from(arguments).and_then(|matches| C::from_arg_matches(&matches));
    parsed.map_err(|error| match wrong_value(&C::command(), arguments, &error) {
        Some(line) => Failure::Usage(line),
        None => error.exit(),
    })
}

/// The one line about a wrong value, which names the environment's variable where the value is from there.
fn wrong_value(program: &clap::Command, arguments: &[OsString], error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (option, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let reason = match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("it takes {}", valid.join(", ")),
        (None, _) if value.is_empty() => "a value is missing".to_owned(),
        (None, _) => "it does not take that".to_owned(),
    };
    let quoted = format!("{value:?}");
    let reason = if reason.contains(&quoted) { reason } else { format!("{quoted}: {reason}") };
    let option = option.split(' ').next().unwrap_or(option);
    let place = variable(program, arguments, option).unwrap_or_else(|| option.to_owned());
    Some(format!("{place}: {reason}"))
}

/// The variable that gave `option` its value, unless the arguments did.
fn variable(program: &clap::Command, arguments: &[OsString], option: &str) -> Option<String> {
    let mut command = program;
    while let Some(inner) = arguments.iter().find_map(|argument| command.find_subcommand(argument)) {
        command = inner;
    }
    let long = option.strip_prefix("--")?;
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(long))?;
    let name = argument.get_env()?;
    let short = argument.get_short().map(|short| format!("-{short}"));
    let is_it = |given: &OsString| {
        let given = given.to_string_lossy();
        given == option
            || given.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))
            || short.as_ref().is_some_and(|short| given.starts_with(short.as_str()))
    };
    let typed = arguments.iter().any(is_it);
    (!typed && std::env::var_os(name).is_some()).then(|| name.to_string_lossy().into_owned())
}
