//! What the shop sells and what people type into its search box: pools of fake values, built once for a seed.

use std::net::Ipv4Addr;

use fake::Fake;
use fake::faker::company::raw::Buzzword;
use fake::faker::internet::raw::IPv4;
use fake::faker::lorem::raw::Word;
use fake::faker::name::raw::LastName;
use fake::locales::{DE_DE, EN, FR_FR};

use crate::draw::{Draw, Purpose};

const PRODUCTS: u32 = 2_000;
const WORDS: usize = 200;
const ADDRESSES: usize = 4_096;

/// A shelf of the shop: its place in the URL, and what a thing on it is called.
struct Shelf {
    slug: &'static str,
    title: &'static str,
    thing: &'static str,
}

const fn shelf(slug: &'static str, title: &'static str, thing: &'static str) -> Shelf {
    Shelf { slug, title, thing }
}

const SHELVES: [Shelf; 12] = [
    shelf("shoes", "Shoes", "Sneakers"),
    shelf("bags", "Bags", "Backpack"),
    shelf("lamps", "Lamps", "Desk Lamp"),
    shelf("chairs", "Chairs", "Armchair"),
    shelf("kitchen", "Kitchen", "Kettle"),
    shelf("coffee", "Coffee", "Espresso Cups"),
    shelf("garden", "Garden", "Planter"),
    shelf("bikes", "Bikes", "Bicycle Bell"),
    shelf("audio", "Audio", "Headphones"),
    shelf("games", "Games", "Puzzle"),
    shelf("books", "Books", "Notebook"),
    shelf("coats", "Coats", "Rain Coat"),
];

struct Product {
    /// The name as the inside of a JSON string: quotes and backslashes are escaped already.
    name: String,
    cents: u32,
}

/// The pools of one seed.
pub(crate) struct Catalogue {
    products: Vec<Product>,
    words: Vec<String>,
    addresses: Vec<Ipv4Addr>,
}

impl Catalogue {
    /// The pools of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed, Purpose::Catalogue, 0);
        let products = (0..PRODUCTS).map(|number| product(number, &mut draw)).collect();
        let words = (0..WORDS).map(|_| Word(EN).fake_with_rng::<String, _>(draw.bits())).collect();
        let mut addresses = Vec::with_capacity(ADDRESSES);
        while addresses.len() < ADDRESSES {
            let address: Ipv4Addr = IPv4(EN).fake_with_rng(draw.bits());
            // Not the ranges that no visitor comes from: this network, private ones, loopback, multicast and above.
            if (1..223).contains(&address.octets()[0]) && !address.is_private() && !address.is_loopback() {
                addresses.push(address);
            }
        }
        Self { products, words, addresses }
    }

    /// A product of any shelf; low numbers sell best.
    pub(crate) fn draw_product(&self, draw: &mut Draw) -> u16 {
        draw.below(PRODUCTS).min(draw.below(PRODUCTS)) as u16
    }

    /// A product of the given shelf.
    pub(crate) fn draw_product_on(&self, shelf: u16, draw: &mut Draw) -> u16 {
        let shelves = SHELVES.len() as u16;
        let product = self.draw_product(draw) / shelves * shelves + shelf;
        if u32::from(product) < PRODUCTS { product } else { product - shelves }
    }

    /// A shelf.
    pub(crate) fn draw_shelf(&self, draw: &mut Draw) -> u16 {
        draw.below(SHELVES.len() as u32) as u16
    }

    /// A search word.
    pub(crate) fn draw_word(&self, draw: &mut Draw) -> u16 {
        draw.below(WORDS as u32).min(draw.below(WORDS as u32)) as u16
    }

    /// The address that a visitor comes from.
    pub(crate) fn draw_address(&self, draw: &mut Draw) -> Ipv4Addr {
        *draw.pick(&self.addresses)
    }

    /// A product's name, as the inside of a JSON string.
    pub(crate) fn product_name(&self, product: u16) -> &str {
        &self.products[usize::from(product)].name
    }

    /// A product's price in cents: the same each time it is asked for.
    pub(crate) fn product_cents(&self, product: u16) -> u32 {
        self.products[usize::from(product)].cents
    }

    /// A shelf's place in the URL.
    pub(crate) fn shelf_slug(&self, shelf: u16) -> &'static str {
        SHELVES[usize::from(shelf)].slug
    }

    /// A shelf's name.
    pub(crate) fn shelf_title(&self, shelf: u16) -> &'static str {
        SHELVES[usize::from(shelf)].title
    }

    /// A search word, as it stands in a URL and in a title: lower-case letters only.
    pub(crate) fn word(&self, word: u16) -> &str {
        &self.words[usize::from(word)]
    }
}

/// Product `number`. Shelves take turns, so that a product's shelf follows from its number.
fn product(number: u32, draw: &mut Draw) -> Product {
    let brand: &str = match draw.below(4) {
        0 => LastName(DE_DE).fake_with_rng(draw.bits()),
        1 => LastName(FR_FR).fake_with_rng(draw.bits()),
        _ => LastName(EN).fake_with_rng(draw.bits()),
    };
    let praise: &str = Buzzword(EN).fake_with_rng(draw.bits());
    let thing = SHELVES[number as usize % SHELVES.len()].thing;
    let name = format!("{brand} {praise} {thing}").replace('\\', "\\\\").replace('"', "\\\"");
    // Most things are cheap: the square of an even draw over 2.99 to 299.99.
    let even = u64::from(draw.below(10_000));
    let whole = 2 + even * even * 298 / 100_000_000;
    Product { name, cents: whole as u32 * 100 + 99 }
}
