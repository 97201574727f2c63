//! A visitor's way through the shop: from the landing page over shelves and products to the cart, or out before.

use crate::catalogue::Catalogue;
use crate::draw::Draw;
use crate::event::{Event, GESTURES, Interaction, Kind, OUTSIDE, Page, Referrer};

/// The most events of one session.
pub(crate) const LONGEST: usize = 40;

/// The most things in a cart.
const CART: usize = 4;

/// Who walks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walker {
    /// Their first session.
    pub(crate) is_new: bool,
    /// They sign up in their first session and may log in from then on.
    pub(crate) registers: bool,
}

/// Appends one session, numbered `session`, to `events`: at most `room` events, whose times count from 0.
pub(crate) fn walk(walker: Walker, session: u32, room: usize, site: (&Catalogue, &mut Draw), events: &mut Vec<Event>) {
    let (catalogue, draw) = site;
    let end = events.len() + room.min(LONGEST);
    let referrer = Referrer::Outside(draw.below(OUTSIDE.len() as u32) as u8);
    let page = if draw.percent(60) { Page::Home } else { Page::Product(catalogue.draw_product(draw)) };
    let mut walk = Walk {
        catalogue,
        draw,
        events,
        end,
        session,
        sequence: 0,
        clock_ms: 0,
        page,
        referrer,
        cart: Vec::with_capacity(CART),
        logged_in: false,
    };
    walk.land(walker);
    if walk.draw.percent(75) {
        for _ in 0..1 + walk.draw.below(3) {
            walk.browse();
        }
        walk.check_out(walker);
    }
    walk.leave();
}

struct Walk<'a> {
    catalogue: &'a Catalogue,
    draw: &'a mut Draw,
    events: &'a mut Vec<Event>,
    /// Where `events` is full; whatever happens after is not seen.
    end: usize,
    session: u32,
    sequence: u8,
    clock_ms: i64,
    page: Page,
    referrer: Referrer,
    /// Products and how many of each.
    cart: Vec<(u16, u8)>,
    logged_in: bool,
}

impl Walk<'_> {
    /// The first page, and signing up or logging in.
    fn land(&mut self, walker: Walker) {
        self.happen(Kind::PageView);
        if self.draw.percent(45) {
            self.happen(Kind::Scroll);
        }
        if walker.is_new && walker.registers {
            self.open(Page::Signup);
            self.happen(Kind::Signup);
            self.log_in();
        } else if walker.registers && self.draw.percent(50) {
            self.log_in();
        }
    }

    fn log_in(&mut self) {
        self.turn_to(Page::Login);
        self.happen(Kind::Login);
        self.logged_in = true;
    }

    /// A shelf or a search, and some of the products found there.
    fn browse(&mut self) {
        let shelf = self.catalogue.draw_shelf(self.draw);
        if self.draw.percent(35) {
            let word = self.catalogue.draw_word(self.draw);
            self.turn_to(Page::Results(word));
            self.happen(Kind::Search);
            self.happen(Kind::PageView);
        } else {
            self.happen(Kind::Click);
            self.open(Page::Shelf(shelf));
        }
        if self.draw.percent(50) {
            self.happen(Kind::Scroll);
        }
        for _ in 0..1 + self.draw.below(2) {
            let product = self.catalogue.draw_product_on(shelf, self.draw);
            self.happen(Kind::Click);
            self.open(Page::Product(product));
            self.look_at(product);
        }
    }

    fn look_at(&mut self, product: u16) {
        if self.draw.percent(35) {
            self.happen(Kind::Scroll);
        }
        if self.draw.percent(12) {
            self.happen(Kind::VideoPlay);
        }
        let in_cart = self.cart.iter().any(|(other, _)| *other == product);
        if self.draw.percent(30) && self.cart.len() < CART && !in_cart {
            let quantity = 1 + self.draw.below(4).min(self.draw.below(4)) as u8;
            self.cart.push((product, quantity));
            self.trade(Kind::AddToCart, product, quantity);
        }
    }

    /// The cart, and one purchase for each thing in it.
    fn check_out(&mut self, walker: Walker) {
        if self.cart.is_empty() || !self.draw.percent(75) {
            return;
        }
        self.happen(Kind::Click);
        self.open(Page::Cart);
        if !self.draw.percent(60) {
            return;
        }
        if walker.registers && !self.logged_in {
            self.log_in();
        }
        for (place, (product, quantity)) in std::mem::take(&mut self.cart).into_iter().enumerate() {
            self.turn_to(Page::Checkout(product));
            if place == 0 {
                self.happen(Kind::PageView);
            }
            self.trade(Kind::Purchase, product, quantity);
        }
    }

    fn leave(&mut self) {
        if self.logged_in && self.draw.percent(40) {
            self.happen(Kind::Logout);
        }
    }

    /// Goes on to `page` and sees it.
    fn open(&mut self, page: Page) {
        self.turn_to(page);
        self.happen(Kind::PageView);
    }

    fn turn_to(&mut self, page: Page) {
        self.referrer = Referrer::Inside(self.page);
        self.page = page;
    }

    /// Something happens on the page that costs nothing.
    fn happen(&mut self, kind: Kind) {
        self.record(kind, None, 1);
    }

    /// `quantity` of `product` is put into the cart or bought.
    fn trade(&mut self, kind: Kind, product: u16, quantity: u8) {
        self.record(kind, Some(self.catalogue.product_cents(product)), quantity);
    }

    fn record(&mut self, kind: Kind, cents: Option<u32>, quantity: u8) {
        if self.events.len() == self.end {
            return;
        }
        let draw = &mut *self.draw;
        let duration_ms = duration_ms(kind, draw);
        let (scroll_depth, clicks) = match kind {
            Kind::PageView => (draw.below(600), draw.below(6)),
            Kind::Scroll => (300 + draw.below(701), 0),
            _ => (draw.below(1_000), 1 + draw.below(4)),
        };
        let count = draw.below(4);
        let mut interactions = [Interaction::default(); 3];
        let stretch = duration_ms / 3;
        for (place, interaction) in interactions.iter_mut().enumerate().take(count as usize) {
            let at_ms = place as u32 * stretch + draw.below(stretch);
            *interaction = Interaction { gesture: draw.below(GESTURES.len() as u32) as u8, at_ms };
        }
        self.events.push(Event {
            id: draw.wide(),
            time_ms: self.clock_ms,
            session: self.session,
            sequence: self.sequence,
            kind,
            page: self.page,
            referrer: self.referrer,
            duration_ms,
            scroll_depth,
            clicks: clicks as u8,
            interactions,
            interaction_count: count as u8,
            cents,
            quantity,
        });
        self.sequence += 1;
        // At least a millisecond, so that time grows with the sequence.
        self.clock_ms += i64::from(duration_ms + 1 + draw.below(15_000));
    }
}

/// How long it takes, at most two minutes.
fn duration_ms(kind: Kind, draw: &mut Draw) -> u32 {
    match kind {
        // Short glances are common and long reads rare: a product of two even draws.
        Kind::PageView => 1_500 + draw.below(340) * draw.below(340),
        Kind::Click => 50 + draw.below(400),
        Kind::Scroll => 300 + draw.below(4_000),
        Kind::Search => 800 + draw.below(6_000),
        Kind::VideoPlay => 5_000 + draw.below(115_000),
        Kind::AddToCart | Kind::Purchase | Kind::Signup | Kind::Login | Kind::Logout => 200 + draw.below(3_000),
    }
}
