//! Text as it may stand in a page. Knows no page.

/// `text` where text or a quoted attribute stands.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_would_end_text_or_an_attribute_is_escaped() {
        assert_eq!(super::escape("<a b='\"&\"'>ä"), "&lt;a b=&#39;&quot;&amp;&quot;&#39;&gt;ä");
    }
}
