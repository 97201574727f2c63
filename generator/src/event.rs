//! One event in numbers, before it is text.

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    PageView,
    Click,
    Scroll,
    Search,
    AddToCart,
    Purchase,
    Signup,
    Login,
    Logout,
    VideoPlay,
}

impl Kind {
    /// The `event_type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PageView => "page_view",
            Self::Click => "click",
            Self::Scroll => "scroll",
            Self::Search => "search",
            Self::AddToCart => "add_to_cart",
            Self::Purchase => "purchase",
            Self::Signup => "signup",
            Self::Login => "login",
            Self::Logout => "logout",
            Self::VideoPlay => "video_play",
        }
    }
}

/// A page of the shop. Numbers are those of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Home,
    Shelf(u16),
    Results(u16),
    Product(u16),
    Cart,
    Checkout(u16),
    Signup,
    Login,
}

/// Where the page was reached from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referrer {
    /// Another site, or none: a number of [`OUTSIDE`].
    Outside(u8),
    /// The page before.
    Inside(Page),
}

/// Referrers outside the shop, as JSON: a link, a typed address, or a browser that does not tell.
pub(crate) const OUTSIDE: [&str; 4] = ["\"https://search.example/\"", "\"https://social.example/\"", "\"\"", "null"];

/// What a visitor does on a page.
pub(crate) const GESTURES: [&str; 3] = ["hover", "tap", "focus"];

/// What the visitor did on the page: a number of [`GESTURES`], and when.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Interaction {
    pub(crate) gesture: u8,
    pub(crate) at_ms: u32,
}

/// One event of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    /// Random bits that its `event_id` is made of.
    pub(crate) id: u128,
    /// When it happened, in milliseconds since 1970; its place in the feed is by this time.
    pub(crate) time_ms: i64,
    /// The session it belongs to: its number in the block.
    pub(crate) session: u32,
    /// Its place in the session, from 0.
    pub(crate) sequence: u8,
    pub(crate) kind: Kind,
    pub(crate) page: Page,
    pub(crate) referrer: Referrer,
    pub(crate) duration_ms: u32,
    /// In thousandths of the page.
    pub(crate) scroll_depth: u32,
    pub(crate) clicks: u8,
    pub(crate) interactions: [Interaction; 3],
    pub(crate) interaction_count: u8,
    /// The price of one piece in cents, if something is put into the cart or bought.
    pub(crate) cents: Option<u32>,
    /// Pieces; 1 where nothing is put into the cart or bought.
    pub(crate) quantity: u8,
}

/// What all events of a session have in common, written out once.
pub(crate) struct Session {
    /// `web`, `ios`, `android` or `api`.
    pub(crate) source: &'static str,
    /// From `,"user":` to `"sequence":`.
    pub(crate) before_sequence: Vec<u8>,
    /// From `,"started_at":` to `"page":`.
    pub(crate) after_sequence: Vec<u8>,
    /// How much later than its time an event arrives, in milliseconds.
    pub(crate) lateness_ms: i64,
    /// The `ref` of every URL of the session.
    pub(crate) campaign: u8,
    pub(crate) experiment: u8,
}
