//! What was typed, with environment and file under it: flags beat variables beat file beat default.
//!
//! Variables and file become the defaults that the flags' own parser falls back to, so each value
//! is checked in one place wherever it was written.

use crate::environment;
use crate::failure::UsageError;
use crate::file;
use crate::layer::{Layer, Origin};
use crate::properties::{BOOTSTRAP_SERVERS, Properties, is_secret};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

/// Flags that are not settings: they say where settings are, or what to do with them.
const NOT_SETTINGS: [&str; 5] = ["config", "check-config", "property", "help", "version"];

/// The flag that sets a property, and so belongs to Kafka's.
const BOOTSTRAP_FLAG: &str = "bootstrap-servers";

// The flags of every command. Not a doc comment: that would become the command's own summary.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka and configuration")]
struct SharedFlags {
    /// Addresses to find the cluster by, separated by commas; any one of its brokers will do.
    #[arg(short = 'b', long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// A property of the Kafka client by Kafka's name, as in -X compression.type=zstd; may repeat.
    #[arg(short = 'X', id = "property", value_name = "NAME=VALUE", value_parser = parse_property)]
    properties: Vec<(String, String)>,
    /// A TOML file: these flags as keys, and Kafka's properties under [kafka].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check flags, environment and file, print what they amount to, and exit.
    #[arg(long, id = "check-config")]
    check_config: bool,
    /// What to log to stderr: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

const PRECEDENCE: &str = "\
Every flag is also a variable (TIDEWATCH_ and its name: TIDEWATCH_LOG=debug) and a key of the file
(log = \"debug\"); Kafka's properties are TIDEWATCH_KAFKA_COMPRESSION_TYPE=zstd, or
compression.type = \"zstd\" under [kafka]. A flag beats a variable beats the file beats the default.
Secrets belong in the file or the environment: other users can see a command line. A value may have
them from elsewhere: ${file:PATH:KEY} of a properties file, ${dir:PATH:FILE}, ${env:NAME}.

Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration.";

/// A command's settings, all read and each valid by itself.
pub(crate) struct Invocation<T> {
    pub(crate) typed: T,
    pub(crate) properties: Properties,
    pub(crate) log: String,
    pub(crate) check_config: bool,
    /// Every setting as TOML, with where it was written; secrets are hidden.
    pub(crate) effective: String,
    pub(crate) warnings: Vec<String>,
}

/// What the command line asks for.
pub(crate) enum Outcome<T> {
    Run(Box<Invocation<T>>),
    /// `--help` and `--version`.
    Print(String),
}

impl<T: CommandFactory + FromArgMatches> Invocation<T> {
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Outcome<T>, UsageError> {
        let command = command::<T>();
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let keys: Vec<String> = settings(&command).map(key).collect();
        let env_keys = [keys.as_slice(), &["config".to_owned()]].concat();
        let environment = environment::parse(variables, &env_keys)?;

        // Only the file's place is wanted of this first look, so nothing is required yet.
        let relaxed = command.clone().mut_args(|arg| arg.required(false));
        let relaxed = with_defaults(relaxed, &environment.layer);
        let matches = match relaxed.try_get_matches_from(&arguments) {
            Ok(matches) => matches,
            Err(error) if is_answer(&error) => return Ok(Outcome::Print(error.to_string())),
            Err(error) => return Err(explain(&error, &environment.layer)),
        };
        let file = match matches.get_one::<PathBuf>("config") {
            Some(path) => file::read(path, &keys)?,
            None => Layer::default(),
        };

        let layer = environment.layer.over(file);
        let matches = with_defaults(command.clone(), &layer)
            .try_get_matches_from(&arguments)
            .map_err(|error| explain(&error, &layer))?;
        let explain = |error: clap::Error| explain(&error, &layer);
        let shared = SharedFlags::from_arg_matches(&matches).map_err(explain)?;
        let typed = T::from_arg_matches(&matches).map_err(explain)?;
        let properties = collect_properties(&shared, &matches, &layer);
        Ok(Outcome::Run(Box::new(Self {
            effective: describe(&command, &matches, &layer, &properties),
            typed,
            properties,
            log: shared.log,
            check_config: shared.check_config,
            warnings: environment.warnings,
        })))
    }
}

/// The command's own flags and the shared ones, as one command: what `--help` shows.
pub fn command<T: CommandFactory>() -> Command {
    let command = SharedFlags::augment_args(T::command());
    let after = command
        .get_after_help()
        .map(|text| format!("{text}\n\n"))
        .unwrap_or_default();
    command.after_help(format!("{after}{PRECEDENCE}"))
}

/// Those flags and arguments that may also stand in the environment or the file.
fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !NOT_SETTINGS.contains(&arg.get_id().as_str()))
}

/// A flag's key: its long name, or what an argument without dashes is called.
fn key(arg: &Arg) -> String {
    arg.get_long()
        .map_or_else(|| arg.get_id().as_str().replace('_', "-"), str::to_owned)
}

fn with_defaults(command: Command, layer: &Layer) -> Command {
    command.mut_args(|arg| match layer.settings.get(&key(&arg)) {
        Some(written) => arg.required(false).default_values(written.values.clone()),
        None => arg,
    })
}

/// From the weakest to the strongest; `-b` and its variable and key mean `bootstrap.servers`.
fn collect_properties(shared: &SharedFlags, matches: &ArgMatches, layer: &Layer) -> Properties {
    let mut properties = Properties::default();
    for (name, written) in &layer.properties {
        properties.insert(
            name.clone(),
            written.values.join(","),
            written.origin.clone(),
        );
    }
    let bootstrap = shared.bootstrap_servers.as_ref().map(|servers| {
        let origin = origin_of(BOOTSTRAP_FLAG, "bootstrap_servers", matches, layer);
        (BOOTSTRAP_SERVERS.to_owned(), servers.clone(), origin)
    });
    let flags = shared.properties.iter().cloned();
    let flags = flags.map(|(name, value)| (name, value, Origin::Flag("-X")));
    // Written as a variable or a key, the address is weaker than -X; as a flag it is stronger.
    let typed = matches!(&bootstrap, Some((_, _, Origin::Flag(_))));
    let (first, last) = if typed {
        (None, bootstrap)
    } else {
        (bootstrap, None)
    };
    for (name, value, origin) in first.into_iter().chain(flags).chain(last) {
        properties.insert(name, value, origin);
    }
    properties
}

fn origin_of(key: &str, id: &str, matches: &ArgMatches, layer: &Layer) -> Origin {
    match (matches.value_source(id), layer.settings.get(key)) {
        (Some(ValueSource::CommandLine), _) => Origin::Flag("command line"),
        (_, Some(written)) => written.origin.clone(),
        _ => Origin::Default,
    }
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("it is not NAME=VALUE, such as compression.type=zstd".to_owned()),
    }
}

/// Whether clap's "error" is what was asked for.
fn is_answer(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    )
}

/// Clap's several lines as one, naming the variable or file where that is to blame.
fn explain(error: &clap::Error, layer: &Layer) -> UsageError {
    let text = error.to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .map(|line| {
            line.trim_start_matches("error: ")
                .trim_start_matches("tip: ")
        })
        .collect();
    let line = lines.join("; ");
    match blamed(error, layer) {
        Some(origin) => UsageError::new(format!("{origin}: {line}")),
        None => UsageError::new(format!("{line}; see --help")),
    }
}

/// Where the invalid value was written, unless on the command line itself.
fn blamed<'a>(error: &clap::Error, layer: &'a Layer) -> Option<&'a Origin> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (flag, value) = (
        context(ContextKind::InvalidArg)?,
        context(ContextKind::InvalidValue)?,
    );
    layer.settings.iter().find_map(|(key, written)| {
        let named = flag
            .trim_start_matches(['-', '[', '<'])
            .to_ascii_lowercase();
        let same = named.split([' ', ']', '>']).next() == Some(key.as_str());
        (same && written.values.iter().any(|written| written == value)).then_some(&written.origin)
    })
}

/// The configuration as a file that would give the same, each line with where it comes from.
fn describe(
    command: &Command,
    matches: &ArgMatches,
    layer: &Layer,
    properties: &Properties,
) -> String {
    let mut text = format!("# {}: the configuration is valid\n", command.get_name());
    // Writing to a String cannot fail.
    for arg in settings(command).filter(|arg| arg.get_long() != Some(BOOTSTRAP_FLAG)) {
        let Some(values) = matches.get_raw(arg.get_id().as_str()) else {
            continue;
        };
        let values: Vec<String> = values
            .map(|raw| toml_value(&raw.to_string_lossy()))
            .collect();
        let value = match values.as_slice() {
            [value] if !is_list(arg) => value.clone(),
            values => format!("[{}]", values.join(", ")),
        };
        let key = key(arg);
        let origin = origin_of(&key, arg.get_id().as_str(), matches, layer);
        let _ = writeln!(text, "{key} = {value}  # {origin}");
    }
    let _ = writeln!(text, "\n[kafka]");
    for (name, property) in properties.iter() {
        let value = if is_secret(name) {
            "(hidden)"
        } else {
            &property.value
        };
        let (name, value) = (toml_string(name), toml_string(value));
        let _ = writeln!(text, "{name} = {value}  # {}", property.origin);
    }
    text
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

fn toml_value(text: &str) -> String {
    match text {
        "true" | "false" => text.to_owned(),
        text => toml_string(text),
    }
}

fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::parse_duration;
    use std::io::Write as _;
    use std::time::Duration;

    /// Watches a host.
    #[derive(Debug, clap::Parser)]
    #[command(name = "watch", version, after_help = "Examples:\n  watch web-1")]
    struct Watch {
        /// The host.
        host: Option<String>,
        /// Between two looks.
        #[arg(long, value_parser = parse_duration, default_value = "2s")]
        interval: Duration,
        /// Prints only.
        #[arg(long)]
        dry_run: bool,
        /// Topics.
        #[arg(long)]
        topic: Vec<String>,
    }

    fn parse(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Outcome<Watch>, String> {
        let arguments = ["watch"].iter().chain(arguments).map(OsString::from);
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Invocation::parse(arguments, variables).map_err(|error| error.to_string())
    }

    fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Invocation<Watch> {
        match parse(arguments, variables).unwrap() {
            Outcome::Run(invocation) => *invocation,
            Outcome::Print(text) => panic!("printed {text}"),
        }
    }

    fn failed(arguments: &[&str], variables: &[(&str, &str)]) -> String {
        parse(arguments, variables).err().expect("it was taken")
    }

    fn config(text: &str) -> (tempfile::NamedTempFile, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        (file, path)
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let (_file, path) = config("interval = \"3s\"\n");
        let variable = [("TIDEWATCH_INTERVAL", "4s")];
        let interval = |arguments: &[&str], variables: &[(&str, &str)]| {
            run(arguments, variables).typed.interval.as_secs()
        };
        assert_eq!(interval(&[], &[]), 2);
        assert_eq!(interval(&["--config", &path], &[]), 3);
        assert_eq!(interval(&["--config", &path], &variable), 4);
        assert_eq!(
            interval(&["--config", &path, "--interval", "5s"], &variable),
            5
        );
        assert_eq!(interval(&[], &[("TIDEWATCH_CONFIG", &path)]), 3);
    }

    #[test]
    fn kafkas_properties_have_the_same_precedence() {
        let (_file, path) = config("[kafka]\nacks = 0\nlinger.ms = 5\nbatch.size = 9\n");
        let variables = [
            ("TIDEWATCH_KAFKA_ACKS", "1"),
            ("TIDEWATCH_KAFKA_LINGER_MS", "6"),
        ];
        let read = run(
            &["--config", &path, "-X", "acks=0", "-Xacks=all"],
            &variables,
        );
        let all: Vec<(&str, &str)> = read
            .properties
            .iter()
            .map(|(name, property)| (name, property.value.as_str()))
            .collect();
        assert_eq!(
            all,
            [("acks", "all"), ("batch.size", "9"), ("linger.ms", "6")]
        );
    }

    #[test]
    fn the_address_is_a_property_wherever_it_is_written() {
        let (_file, path) = config("bootstrap-servers = \"f:1\"\n");
        let servers = |arguments: &[&str], variables: &[(&str, &str)]| {
            run(arguments, variables)
                .properties
                .bootstrap_servers()
                .unwrap()
                .to_owned()
        };
        let variable = [("TIDEWATCH_BOOTSTRAP_SERVERS", "v:1")];
        assert_eq!(servers(&["-X", "bootstrap.servers=x:1"], &variable), "x:1");
        assert_eq!(
            servers(&["-X", "bootstrap.servers=x:1", "-b", "b:1"], &variable),
            "b:1"
        );
        assert_eq!(servers(&["--config", &path], &variable), "v:1");
        assert_eq!(servers(&["--config", &path], &[]), "f:1");
    }

    #[test]
    fn flags_without_a_value_and_lists_stand_in_a_file_too() {
        let (_file, path) = config("dry-run = true\ntopic = [\"a\", \"b\"]\nhost = \"web-1\"\n");
        let read = run(&["--config", &path], &[]);
        assert!(read.typed.dry_run);
        assert_eq!(read.typed.topic, ["a", "b"]);
        assert_eq!(read.typed.host.as_deref(), Some("web-1"));
        let read = run(
            &["--config", &path, "--topic", "c"],
            &[("TIDEWATCH_DRY_RUN", "false")],
        );
        assert!(!read.typed.dry_run);
        assert_eq!(read.typed.topic, ["c"]);
    }

    #[test]
    fn a_wrong_value_is_blamed_on_the_place_where_it_stands() {
        let (_file, path) = config("interval = \"3x\"\n");
        let line = failed(&["--config", &path], &[]);
        assert!(
            line.starts_with(&format!("{path}: ")) && line.contains("`x` is not a unit"),
            "{line}"
        );
        let line = failed(&[], &[("TIDEWATCH_INTERVAL", "4")]);
        assert!(
            line.starts_with("TIDEWATCH_INTERVAL: ") && line.contains("unit is missing"),
            "{line}"
        );
        let line = failed(&["--interval", "5"], &[("TIDEWATCH_INTERVAL", "4s")]);
        assert!(
            line.starts_with("invalid value '5' for '--interval"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn what_is_unknown_names_the_nearest_known() {
        let line = failed(&["--intervall", "5s"], &[]);
        assert!(
            line.contains("'--intervall'") && line.contains("'--interval'"),
            "{line}"
        );
        let (_file, path) = config("intervall = \"3s\"\n");
        assert!(failed(&["--config", &path], &[]).contains("did you mean `interval`?"));
        assert!(failed(&["-X", "acks"], &[]).contains("it is not NAME=VALUE"));
    }

    #[test]
    fn help_and_version_are_answers_and_not_errors() {
        let printed = |argument| match parse(&[argument], &[]) {
            Ok(Outcome::Print(text)) => text,
            _ => panic!("{argument} printed nothing"),
        };
        assert!(printed("--version").starts_with("watch "));
        let help = printed("--help");
        assert!(
            help.contains("Examples:") && help.contains("--bootstrap-servers"),
            "{help}"
        );
        assert!(help.contains("Exit codes"), "{help}");
    }

    #[test]
    fn the_effective_configuration_says_where_each_line_comes_from_and_hides_secrets() {
        let (_file, path) = config("[kafka]\nsasl.password = \"hunter2\"\n");
        let read = run(
            &[
                "we\"b",
                "--config",
                &path,
                "--check-config",
                "-b",
                "a:1",
                "--topic",
                "c",
            ],
            &[("TIDEWATCH_INTERVAL", "4s")],
        );
        assert!(read.check_config);
        let expected = format!(
            "# watch: the configuration is valid\n\
             host = \"we\\\"b\"  # command line\n\
             interval = \"4s\"  # TIDEWATCH_INTERVAL\n\
             dry-run = false  # default\n\
             topic = [\"c\"]  # command line\n\
             log = \"info\"  # default\n\
             \n\
             [kafka]\n\
             \"bootstrap.servers\" = \"a:1\"  # command line\n\
             \"sasl.password\" = \"(hidden)\"  # {path}\n"
        );
        assert_eq!(read.effective, expected);
    }

    #[test]
    fn the_effective_configuration_can_be_read_again() {
        let first = run(&["a\\b\u{7f}", "-X", "client.id=x\"y", "--dry-run"], &[]);
        let (_file, path) = config(&first.effective);
        let again = run(&["--config", &path], &[]);
        assert_eq!(again.typed.host, first.typed.host);
        assert!(again.typed.dry_run);
        assert_eq!(again.properties.get("client.id"), Some("x\"y"));
    }
}
