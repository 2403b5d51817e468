//! `sasl.jaas.config`: one login module in the syntax of Java's configuration files.
//!
//! ```text
//! org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="…";
//! ```

use super::security::Secret;
use std::iter::Peekable;
use std::str::Chars;

/// What a value must look like; a bad one is never shown, because it holds a password.
pub(super) const EXAMPLE: &str = "a login module as Java writes it, such as \
     org.apache.kafka.common.security.scram.ScramLoginModule required username=\"…\" password=\"…\";";

/// Java's flags; with one module they all mean the same.
const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

/// The modules that Kafka's own mechanisms have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginModule {
    Plain,
    Scram,
    OauthBearer,
}

/// A module with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) module: LoginModule,
    /// Any of them may be secret.
    options: Vec<(String, Secret)>,
}

impl LoginModule {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PlainLoginModule",
            Self::Scram => "ScramLoginModule",
            Self::OauthBearer => "OAuthBearerLoginModule",
        }
    }

    /// By its class, whose package no longer says anything that the name does not.
    fn of_class(class: &str) -> Option<Self> {
        let all = [Self::Plain, Self::Scram, Self::OauthBearer];
        let name = class.rsplit('.').next()?;
        all.into_iter().find(|module| module.name() == name)
    }
}

impl Login {
    /// `None` where it is not one module with a flag, options and a semicolon.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = Words {
            left: text.chars().peekable(),
        };
        let module = LoginModule::of_class(&words.next_word()?)?;
        let flag = words.next_word()?.to_ascii_lowercase();
        if !FLAGS.contains(&flag.as_str()) {
            return None;
        }
        let mut options = Vec::new();
        while !words.take(';') {
            let name = words.next_word()?;
            if !words.take('=') {
                return None;
            }
            options.push((name, Secret::new(words.next_word()?)));
        }
        words.is_at_end().then_some(Self { module, options })
    }

    /// The option of that name; the last, where it stands there twice.
    pub(super) fn option(&self, name: &str) -> Option<Secret> {
        let mut named = self.options.iter().rev();
        let found = named.find(|(option, _)| option == name);
        found.map(|(_, value)| value.clone())
    }
}

/// Words, each plain or in quotes, with `=` and `;` between them.
struct Words<'a> {
    left: Peekable<Chars<'a>>,
}

impl Words<'_> {
    fn next_word(&mut self) -> Option<String> {
        self.skip_space();
        if let Some(quote) = self.left.next_if(|c| matches!(c, '"' | '\'')) {
            return self.quoted(quote);
        }
        let mut word = String::new();
        while let Some(c) = self
            .left
            .next_if(|c| !c.is_whitespace() && !matches!(c, '=' | ';' | '"' | '\''))
        {
            word.push(c);
        }
        (!word.is_empty()).then_some(word)
    }

    /// Up to the closing quote; a backslash takes the meaning of what follows it.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut word = String::new();
        loop {
            match self.left.next()? {
                c if c == quote => return Some(word),
                '\\' => word.push(match self.left.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                c => word.push(c),
            }
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        self.left.next_if_eq(&wanted).is_some()
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.left.peek().is_none()
    }

    fn skip_space(&mut self) {
        while self.left.next_if(|c| c.is_whitespace()).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(login: &Login, name: &str) -> Option<String> {
        login.option(name).map(|value| value.expose().to_owned())
    }

    #[test]
    fn a_module_has_options_in_quotes_or_without() {
        let login = Login::parse(
            "org.apache.kafka.common.security.scram.ScramLoginModule required\n  \
             username=\"b\\\"o\\\\b\" password='it;s = secret' tokenauth=true;",
        )
        .unwrap();
        assert_eq!(login.module, LoginModule::Scram);
        assert_eq!(option(&login, "username").as_deref(), Some("b\"o\\b"));
        assert_eq!(option(&login, "password").as_deref(), Some("it;s = secret"));
        assert_eq!(option(&login, "tokenauth").as_deref(), Some("true"));
        assert_eq!(option(&login, "user"), None);
        assert!(!format!("{login:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for text in [
            "",
            "PlainLoginModule",
            "PlainLoginModule required",
            "PlainLoginModule required username=\"a\"",
            "PlainLoginModule required username=\"a;",
            "PlainLoginModule required username;",
            "PlainLoginModule often username=\"a\";",
            "com.sun.security.auth.module.Krb5LoginModule required;",
            "PlainLoginModule required; ScramLoginModule required;",
        ] {
            assert_eq!(Login::parse(text), None, "{text}");
        }
        assert!(Login::parse("PlainLoginModule REQUIRED ;").is_some());
    }
}
