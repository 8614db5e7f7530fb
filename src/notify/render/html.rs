//! A notice as the HTML part of a mail: tables and inline CSS, readable on a phone, in light and in dark.
//!
//! It must never load anything from outside nor hold an unescaped text.

use super::{Mood, Sheet};
use crate::{model::Notice, notify::sanitize::html as escape};

/// Mail clients that know dark mode take these over the inline colours.
const STYLE: &str = "@media (prefers-color-scheme: dark) {\
 .page { background: #15181c !important; }\
 .card { background: #20252b !important; border-color: #39414a !important; }\
 .ink { color: #e8eaed !important; }\
 .faint { color: #a3abb5 !important; }\
 .cell { border-color: #39414a !important; }\
 .todo { background: #2a3038 !important; }\
 }";

pub fn html(notice: &Notice) -> String {
    let sheet = Sheet::of(notice);
    let color = color(sheet.mood);
    let title = escape(&sheet.title);
    let mut card = format!(
        "<tr><td style=\"background:{color};padding:8px 20px;font-size:13px;font-weight:bold;letter-spacing:1px;\
         color:#ffffff;\">{}</td></tr>\n\
         <tr><td class=\"ink\" style=\"padding:18px 20px 6px;font-size:20px;line-height:1.3;font-weight:bold;\
         color:#1c2024;word-break:break-word;\">{title}</td></tr>\n",
        sheet.badge
    );
    if !sheet.reason.is_empty() {
        card.push_str(&format!(
            "<tr><td class=\"ink\" style=\"padding:6px 20px;font-size:15px;line-height:1.5;color:#1c2024;\
             word-break:break-word;\">{}</td></tr>\n",
            escape(&sheet.reason)
        ));
    }
    if !sheet.rows.is_empty() {
        card.push_str(&figures(&sheet));
    }
    for member in &sheet.members {
        card.push_str(&member_row(member));
    }
    if let Some(more) = &sheet.more {
        card.push_str(&format!(
            "<tr><td class=\"ink\" style=\"padding:6px 20px;font-size:14px;line-height:1.5;color:#1c2024;\">{}</td></tr>\n",
            escape(more)
        ));
    }
    if !sheet.advice.is_empty() {
        card.push_str(&format!(
            "<tr><td style=\"padding:8px 20px;\"><table role=\"presentation\" width=\"100%\" cellpadding=\"0\" \
             cellspacing=\"0\"><tr><td class=\"ink todo\" style=\"padding:12px 14px;border-left:4px solid {color};\
             background:#f3f5f7;font-size:15px;line-height:1.5;color:#1c2024;word-break:break-word;\">\
             <b>What to do</b><br>{}</td></tr></table></td></tr>\n",
            escape(&sheet.advice)
        ));
    }
    card.push_str(&format!(
        "<tr><td class=\"faint\" style=\"padding:10px 20px 18px;font-size:12px;line-height:1.5;color:#5b6570;\
         word-break:break-word;\">{}<br>{}<br>{}<br>Sent by spheron-watch.</td></tr>\n",
        escape(&sheet.when),
        escape(&sheet.origin),
        escape(&sheet.id)
    ));
    page(&title, &card)
}

/// One alert of a group.
fn member_row(member: &Sheet) -> String {
    let color = color(member.mood);
    format!(
        "<tr><td style=\"padding:8px 20px;\"><table role=\"presentation\" width=\"100%\" cellpadding=\"0\" \
         cellspacing=\"0\"><tr><td class=\"ink cell\" style=\"padding:6px 12px;border-left:4px solid {color};\
         font-size:14px;line-height:1.5;color:#1c2024;word-break:break-word;\">\
         <b>{}: {}</b><br>{}<br>{}<br><span class=\"faint\" style=\"font-size:12px;color:#5b6570;\">{} {} {}</span>\
         </td></tr></table></td></tr>\n",
        member.badge,
        escape(&member.title),
        escape(&member.reason),
        escape(&member.advice),
        escape(&member.when),
        escape(&member.origin),
        escape(&member.id)
    )
}

fn figures(sheet: &Sheet) -> String {
    let mut out = String::from(
        "<tr><td style=\"padding:8px 20px;\"><table width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" \
         style=\"border-collapse:collapse;font-size:14px;line-height:1.4;\">\n",
    );
    for (name, value) in &sheet.rows {
        out.push_str(&format!(
            "<tr><th class=\"faint cell\" scope=\"row\" align=\"left\" style=\"padding:6px 14px 6px 0;\
             border-bottom:1px solid #e3e7eb;font-weight:normal;color:#5b6570;vertical-align:top;\">{}</th>\
             <td class=\"ink cell\" style=\"padding:6px 0;border-bottom:1px solid #e3e7eb;color:#1c2024;\
             word-break:break-word;\">{}</td></tr>\n",
            escape(name),
            escape(value)
        ));
    }
    out.push_str("</table></td></tr>\n");
    out
}

fn page(title: &str, card: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"supported-color-schemes\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{STYLE}</style></head>\n\
         <body class=\"page\" style=\"margin:0;padding:0;background:#eef1f4;\">\n\
         <table role=\"presentation\" class=\"page\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" \
         style=\"background:#eef1f4;\"><tr><td align=\"center\" style=\"padding:16px 8px;\">\n\
         <table role=\"presentation\" class=\"card\" width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" \
         style=\"max-width:600px;background:#ffffff;border:1px solid #d9dee3;border-collapse:separate;\
         font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;text-align:left;\">\n\
         {card}</table>\n</td></tr></table>\n</body></html>\n"
    )
}

/// Dark enough for white text on it (contrast 4.5 or more).
fn color(mood: Mood) -> &'static str {
    match mood {
        Mood::Critical => "#b3261e",
        Mood::Warning => "#8a5a00",
        Mood::Info => "#1f5fa8",
        Mood::Good => "#1e7a3c",
    }
}
