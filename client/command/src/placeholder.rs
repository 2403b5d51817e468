//! `${file:PATH:KEY}`, `${dir:PATH:FILE}` and `${env:NAME}` inside a property's value, as Kafka's
//! FileConfigProvider, DirectoryConfigProvider and EnvVarConfigProvider have them (KIP-297, KIP-421),
//! so that secrets need not stand in a configuration.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The longest file read; a secret, a key or a certificate chain is far shorter.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The value with every placeholder replaced, once: what comes in is not looked at again. What is
/// none of the three stays as it is, as with Kafka.
///
/// # Errors
/// What a placeholder stands for cannot be read; the message shows none of it.
pub(crate) fn expand(value: &str) -> Result<Cow<'_, str>, String> {
    if !value.contains("${") {
        return Ok(Cow::Borrowed(value));
    }
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let placed = after
            .split_once('}')
            .and_then(|(inside, after)| Some((look_up(inside)?, after)));
        match placed {
            Some((found, after)) => {
                expanded.push_str(&found?);
                rest = after;
            }
            None => {
                expanded.push_str("${");
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    Ok(Cow::Owned(expanded))
}

/// What `provider:…` stands for; `None` where it is no placeholder.
fn look_up(inside: &str) -> Option<Result<String, String>> {
    let (provider, what) = inside.split_once(':')?;
    Some(match provider {
        "env" => std::env::var(what).map_err(|_| format!("the variable {what} is not set")),
        "dir" => {
            let (dir, file) = what.rsplit_once(':')?;
            // An editor ends a file with a line end, which no secret means.
            let text = read(&Path::new(dir).join(file));
            text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        }
        "file" => {
            let (path, key) = what.rsplit_once(':')?;
            read(Path::new(path)).and_then(|text| {
                property(&text, key).ok_or_else(|| format!("{path} has no key {key}"))
            })
        }
        _ => return None,
    })
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |why: &dyn std::fmt::Display| format!("failed to read {}: {why}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(|why| failed(&why))?;
    file.take(FILE_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|why| failed(&why))?;
    match text.len() as u64 > FILE_MAX_BYTES {
        true => Err(failed(&format_args!(
            "it is longer than {FILE_MAX_BYTES} bytes"
        ))),
        false => Ok(text),
    }
}

/// The value of `key` in a properties file: `key=value` or `key: value` a line, `#` or `!` before
/// comments, a backslash before what is meant literally.
fn property(text: &str, key: &str) -> Option<String> {
    let lines = text.lines().map(str::trim_start);
    let mut pairs = lines
        .filter(|line| !line.starts_with(['#', '!']))
        .filter_map(|line| line.split_once(['=', ':']));
    let (_, value) = pairs.find(|(name, _)| name.trim_end() == key)?;
    let mut literal = String::new();
    let mut chars = value.trim_start().chars();
    while let Some(c) = chars.next() {
        literal.push(match c {
            '\\' => chars.next()?,
            c => c,
        });
    }
    Some(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_a_folder_and_a_variable_stand_for_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("password"), "hunter2\n").unwrap();
        let properties = "# who\nuser = bob\n! and\npassword: h\\\\u=n\\:ter2\n";
        std::fs::write(at("secrets.properties"), properties).unwrap();
        let file = at("secrets.properties");
        let value =
            format!("Module required u=\"${{file:{file}:user}}\" p=\"${{file:{file}:password}}\";");
        let expanded = expand(&value).unwrap();
        assert_eq!(expanded, "Module required u=\"bob\" p=\"h\\u=n:ter2\";");
        let dir = dir.path().to_str().unwrap();
        assert_eq!(
            expand(&format!("${{dir:{dir}:password}}")).unwrap(),
            "hunter2"
        );
        let path = std::env::var("PATH").unwrap();
        assert_eq!(expand("<${env:PATH}>").unwrap(), format!("<{path}>"));
    }

    #[test]
    fn what_is_no_placeholder_stays() {
        for value in [
            "plain",
            "a${b}c",
            "${vault:a:b}",
            "${file:",
            "$${",
            "${}",
            "${dir:x}",
        ] {
            assert_eq!(expand(value).unwrap(), value);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let said = expand("${file:/nowhere/secrets:password}").unwrap_err();
        assert!(said.contains("/nowhere/secrets: No such file"), "{said}");
        let said = expand("${env:TIDEWATCH_NOT_SET}").unwrap_err();
        assert_eq!(said, "the variable TIDEWATCH_NOT_SET is not set");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        std::fs::write(&path, "password=hunter2\n").unwrap();
        let said = expand(&format!("${{file:{}:passwd}}", path.display())).unwrap_err();
        assert!(
            said.contains("has no key passwd") && !said.contains("hunter2"),
            "{said}"
        );
        assert!(
            expand("${dir:/dev:zero}")
                .unwrap_err()
                .contains("longer than")
        );
    }
}
