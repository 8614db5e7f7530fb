//! A notice as the HTML part of a mail: one template per kind of mail, readable on a phone, in light and in dark.
//!
//! It must never hold an unescaped text, load anything from outside, or keep a mail from going out: the text part says all.

use minijinja::{Environment, UndefinedBehavior, context, syntax::SyntaxConfig, value::Serde};

use super::Sheet;
use crate::model::{Notice, Transition};

/// As many steps as the largest digest needs, ten times over.
const FUEL: u64 = 200_000;

const SOURCES: [(&str, &str); 8] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("parts.html", include_str!("templates/parts.html")),
    ("alert.html", include_str!("templates/alert.html")),
    ("resolved.html", include_str!("templates/resolved.html")),
    ("event.html", include_str!("templates/event.html")),
    ("group.html", include_str!("templates/group.html")),
    ("digest.html", include_str!("templates/digest.html")),
    ("test.html", include_str!("templates/test.html")),
];

/// The templates of all mails, parsed once.
pub struct Templates(Environment<'static>);

impl Templates {
    pub fn built_in() -> Self {
        Self::of(&SOURCES)
    }

    /// One that cannot be parsed is left out: what needs it fails when it is rendered.
    fn of(sources: &[(&'static str, &'static str)]) -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_fuel(Some(FUEL));
        // Lines of statements alone leave nothing behind.
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            env.set_syntax(syntax);
        }
        for (name, source) in sources {
            if let Err(error) = env.add_template(name, source) {
                tracing::error!(template = name, %error, "a mail template cannot be parsed; please report this");
            }
        }
        Self(env)
    }

    pub fn html(&self, notice: &Notice) -> Result<String, minijinja::Error> {
        let sheet = Sheet::of(notice);
        self.0.get_template(template(notice))?.render(context! { sheet => Serde(sheet) })
    }

    /// Templates of which none can be rendered.
    #[cfg(test)]
    pub fn broken() -> Self {
        Self::of(&[
            ("alert.html", "<p>{{ sheet.title }} {{ sheet.no_such_thing }}</p>"),
            ("event.html", "{% if %}"),
        ])
    }
}

fn template(notice: &Notice) -> &'static str {
    match (notice.transition, notice.together.members.is_empty(), notice.together.more) {
        (Transition::Test, ..) => "test.html",
        (_, false, 0) => "group.html",
        (_, _, 1..) => "digest.html",
        (Transition::Firing | Transition::Reminder, true, 0) => "alert.html",
        (Transition::Resolved, true, 0) => "resolved.html",
        (Transition::Event, true, 0) => "event.html",
    }
}
