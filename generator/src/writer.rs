//! An event's line of JSON.

use crate::catalogue::Catalogue;
use crate::drift::Drift;
use crate::event::{Event, GESTURES, OUTSIDE, Page, Referrer, Session};
use crate::fault::{BAD_TIMES, Fault, NOT_OBJECTS};
use crate::json::{decimal, integer, padded, text, time, uuid};

/// Writes events of one session.
pub(crate) struct Writer<'a> {
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) session: &'a Session,
    pub(crate) drift: Drift,
}

impl Writer<'_> {
    /// Appends `event` and the line's end.
    pub(crate) fn write(&self, event: &Event, out: &mut Vec<u8>) {
        self.head(event, None, out);
        self.body(event, out);
        out.push(b'\n');
    }

    /// Appends a line that is `event` with `fault`, under an id of its own.
    pub(crate) fn write_broken(&self, event: &Event, fault: Fault, salt: u32, out: &mut Vec<u8>) {
        let first = out.len();
        let copy = Event { id: event.id ^ u128::from(salt | 1), ..*event };
        self.head(&copy, Some((fault, salt)), out);
        self.body(&copy, out);
        match fault {
            Fault::Truncated => {
                let length = (out.len() - first) as u64;
                // Any beginning of an object but the whole of it is no JSON; at least its brace is left.
                out.truncate(first + 1 + ((u64::from(salt) * (length - 1)) >> 32) as usize);
            }
            Fault::NotUtf8 => {
                let value = first + b"{\"event_id\":\"".len();
                out[value..value + 2].copy_from_slice(&[0xff, 0xfe]);
            }
            Fault::NotAnObject => {
                out.truncate(first);
                text(out, NOT_OBJECTS[salt as usize % NOT_OBJECTS.len()]);
            }
            Fault::NoId | Fault::NoType | Fault::NoTime | Fault::BadTime => {}
        }
        out.push(b'\n');
    }

    /// `{"event_id":…` up to `"schema_version":…`.
    fn head(&self, event: &Event, broken: Option<(Fault, u32)>, out: &mut Vec<u8>) {
        let fault = broken.map(|(fault, _)| fault);
        out.push(b'{');
        if fault != Some(Fault::NoId) {
            text(out, "\"event_id\":\"");
            uuid(out, event.id);
            text(out, "\",");
        }
        if fault != Some(Fault::NoType) {
            text(out, "\"event_type\":\"");
            text(out, event.kind.name());
            text(out, "\",");
        }
        match broken {
            Some((Fault::NoTime, _)) => {}
            Some((Fault::BadTime, salt)) => {
                text(out, "\"event_time\":\"");
                text(out, BAD_TIMES[salt as usize % BAD_TIMES.len()]);
                text(out, "\",");
            }
            _ => {
                text(out, "\"event_time\":\"");
                time(out, event.time_ms - self.session.lateness_ms);
                text(out, "\",");
            }
        }
        text(out, "\"source\":\"");
        text(out, self.session.source);
        text(out, "\",\"schema_version\":");
        if self.drift.new_fields {
            text(out, "2,\"consent\":{\"analytics\":true,\"marketing\":");
            text(out, if event.id & 16 == 0 { "true}" } else { "false}" });
        } else {
            out.push(b'1');
        }
    }

    /// `,"user":…` up to the closing brace.
    fn body(&self, event: &Event, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.session.before_sequence);
        integer(out, u64::from(event.sequence));
        out.extend_from_slice(&self.session.after_sequence);
        self.page(event, out);
        self.engagement(event, out);
        self.properties(event, out);
        out.push(b'}');
    }

    fn page(&self, event: &Event, out: &mut Vec<u8>) {
        text(out, "{\"url\":\"");
        self.url(event.page, out);
        text(out, "\",\"referrer\":");
        match event.referrer {
            Referrer::Outside(site) => text(out, OUTSIDE[usize::from(site)]),
            Referrer::Inside(page) => {
                out.push(b'"');
                self.url(page, out);
                out.push(b'"');
            }
        }
        text(out, ",\"title\":\"");
        self.title(event.page, out);
        out.push(b'"');
        if self.drift.new_fields {
            text(out, ",\"language\":\"en\"");
        }
        out.push(b'}');
    }

    fn url(&self, page: Page, out: &mut Vec<u8>) {
        text(out, "https://shop.example.com/");
        let mut separator = b'?';
        match page {
            Page::Home => {}
            Page::Shelf(shelf) => {
                text(out, "c/");
                text(out, self.catalogue.shelf_slug(shelf));
            }
            Page::Results(word) => {
                text(out, "search?q=");
                text(out, self.catalogue.word(word));
                separator = b'&';
            }
            Page::Product(product) | Page::Checkout(product) => {
                text(out, "p/");
                integer(out, u64::from(product));
                if let Page::Checkout(_) = page {
                    text(out, "/checkout");
                }
            }
            Page::Cart => text(out, "cart"),
            Page::Signup => text(out, "signup"),
            Page::Login => text(out, "login"),
        }
        out.push(separator);
        text(out, "ref=");
        integer(out, u64::from(self.session.campaign));
    }

    fn title(&self, page: Page, out: &mut Vec<u8>) {
        match page {
            Page::Home => text(out, "Welcome"),
            Page::Shelf(shelf) => text(out, self.catalogue.shelf_title(shelf)),
            Page::Results(word) => {
                text(out, "Search: ");
                text(out, self.catalogue.word(word));
            }
            Page::Product(product) | Page::Checkout(product) => text(out, self.catalogue.product_name(product)),
            Page::Cart => text(out, "Your cart"),
            Page::Signup => text(out, "Sign up"),
            Page::Login => text(out, "Log in"),
        }
    }

    fn engagement(&self, event: &Event, out: &mut Vec<u8>) {
        text(out, ",\"engagement\":{\"duration_ms\":");
        integer(out, u64::from(event.duration_ms));
        text(out, ",\"scroll_depth\":");
        decimal(out, i64::from(event.scroll_depth), 3);
        text(out, ",\"clicks\":");
        integer(out, u64::from(event.clicks));
        if self.drift.new_fields {
            text(out, ",\"rage_clicks\":");
            integer(out, u64::from(event.clicks / 4));
        }
        text(out, ",\"interactions\":[");
        for (place, interaction) in event.interactions[..usize::from(event.interaction_count)].iter().enumerate() {
            text(out, if place == 0 { "{\"type\":\"" } else { ",{\"type\":\"" });
            text(out, GESTURES[usize::from(interaction.gesture)]);
            text(out, "\",\"at_ms\":");
            integer(out, u64::from(interaction.at_ms));
            out.push(b'}');
        }
        text(out, "]}");
    }

    fn properties(&self, event: &Event, out: &mut Vec<u8>) {
        text(out, ",\"properties\":{\"experiment\":");
        text(out, if self.drift.experiment_as_object { "{\"name\":\"exp_" } else { "\"exp_" });
        integer(out, u64::from(self.session.experiment));
        text(out, if self.drift.experiment_as_object { "\",\"variant\":\"b\"}" } else { "\"" });
        text(out, ",\"price\":");
        match event.cents {
            None => text(out, "null"),
            Some(cents) if self.drift.price_as_text => {
                out.push(b'"');
                decimal(out, i64::from(cents), 2);
                out.push(b'"');
            }
            Some(cents) => decimal(out, i64::from(cents), 2),
        }
        text(out, ",\"currency\":\"USD\",\"quantity\":");
        integer(out, u64::from(event.quantity));
        if self.drift.nesting {
            text(out, ",\"attribution\":{\"model\":\"last_touch\",\"touch\":{\"campaign\":{\"id\":\"c");
            padded(out, u64::from(self.session.campaign), 2);
            text(out, "\",\"terms\":[{\"rank\":1,\"weights\":[0.5,0.25]}]},\"at_ms\":");
            integer(out, u64::from(event.duration_ms / 2));
            text(out, "}}");
        }
        out.push(b'}');
    }
}
