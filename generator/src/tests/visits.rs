//! How visitors behave: sessions, carts, and coming back.

use super::*;

#[test]
fn a_clean_feed_is_in_order_and_two_weeks_are_200_000_events() {
    let start = Settings::default().start;
    let times: Vec<_> = clean(0, 2 * BLOCK_EVENTS).iter().map(time).collect();
    assert!(times.is_sorted());
    assert!(times[0] >= start && times[0] < start + TimeDelta::minutes(30), "{}", times[0]);
    let last = time(&clean(199_999, 1)[0]);
    let next = time(&clean(200_000, 1)[0]);
    let end = start + TimeDelta::days(14);
    assert!(last < end && last > end - TimeDelta::hours(1) && next >= end, "{last} {next}");
    let moved = Settings { start: start + TimeDelta::days(3), ..Settings::default() };
    assert_eq!(time(&events(&bytes(moved, 77, 1))[0]), times[77] + TimeDelta::days(3));
}

#[test]
fn sessions_are_mixed_in_the_feed() {
    let events = clean(1_000, 1_000);
    let neighbours =
        events.windows(2).filter(|pair| pair[0]["session"]["session_id"] != pair[1]["session"]["session_id"]);
    assert!(neighbours.count() > 500);
}

#[test]
fn a_session_is_one_visit_of_one_visitor() {
    let events = clean(0, 5 * BLOCK_EVENTS);
    let sessions = sessions(&events);
    let mut visitors: HashMap<&str, Vec<&Vec<&Value>>> = HashMap::new();
    for session in sessions.values() {
        let started = moment(string(session[0], "/session/started_at"));
        assert_eq!(time(session[0]), started);
        assert!(session.windows(2).all(|pair| time(pair[0]) < time(pair[1])));
        for (place, event) in session.iter().enumerate() {
            assert_eq!(event["session"]["sequence"], place);
            assert_eq!(event["session"]["started_at"], session[0]["session"]["started_at"]);
            assert_eq!(event["user"], session[0]["user"]);
        }
        visitors.entry(string(session[0], "/user/user_id")).or_default().push(session);
    }
    assert!(visitors.values().filter(|sessions| sessions.len() > 2).count() > 20);
    for sessions in visitors.values_mut() {
        sessions.sort_by_key(|session| time(session[0]));
        let home = sessions[0][0];
        for (place, session) in sessions.iter().enumerate() {
            assert_eq!(session[0]["user"]["is_new"], place == 0);
            assert_eq!(session[0]["user"]["anonymous_id"], home["user"]["anonymous_id"]);
            for event in session.iter() {
                for trait_ in ["source", "user_agent", "location"] {
                    assert_eq!(event[trait_], home[trait_]);
                }
            }
        }
        assert!(sessions.windows(2).all(|pair| time(pair[0][pair[0].len() - 1]) < time(pair[1][0])));
    }
}

#[test]
fn a_visit_follows_the_shop() {
    let events = clean(0, 5 * BLOCK_EVENTS);
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut prices: HashMap<String, f64> = HashMap::new();
    let mut signed_up: HashSet<&str> = HashSet::new();
    let product = |event: &Value| string(event, "/page/url").split(['/', '?']).nth(4).unwrap().to_owned();
    for event in &events {
        let kind = string(event, "/event_type");
        *counts.entry(kind).or_default() += 1;
        let trade = ["add_to_cart", "purchase"].contains(&kind);
        assert_eq!(event["properties"]["price"].is_f64(), trade, "{event}");
        let user = string(event, "/user/user_id");
        match kind {
            "signup" => assert!(event["user"]["is_new"] == true && signed_up.insert(user)),
            "login" => assert!(signed_up.contains(user)),
            _ if trade => {
                let price = event["properties"]["price"].as_f64().unwrap();
                assert!(price > 0.0 && event["properties"]["quantity"].as_u64().unwrap() > 0);
                assert_eq!(*prices.entry(product(event)).or_insert(price), price);
            }
            _ => {}
        }
    }
    for kind in ["page_view", "click", "scroll", "search", "add_to_cart", "purchase", "signup", "login", "logout"] {
        assert!(counts[kind] > 50, "{kind}: {}", counts[kind]);
    }
    assert!(counts["video_play"] > 50 && counts.len() == 10);

    for session in sessions(&events).values() {
        assert_eq!(session[0]["event_type"], "page_view");
        let mut cart = HashMap::new();
        let mut logged_in = false;
        for event in session {
            match string(event, "/event_type") {
                "add_to_cart" => assert!(cart.insert(product(event), event["properties"].clone()).is_none()),
                "purchase" => assert_eq!(cart.remove(&product(event)), Some(event["properties"].clone())),
                "login" => assert!(!std::mem::replace(&mut logged_in, true)),
                "logout" => assert!(logged_in),
                "search" => assert!(string(event, "/page/url").contains("/search?q=")),
                "video_play" => assert!(string(event, "/page/url").contains("/p/")),
                _ => {}
            }
        }
        for pair in session.windows(2) {
            let (before, after) = (string(pair[0], "/page/url"), string(pair[1], "/page/url"));
            assert!(before == after || string(pair[1], "/page/referrer").starts_with("https://shop.example.com/"));
        }
    }
}

#[test]
fn visitors_come_back_for_weeks() {
    let generator = feed(Settings::default());
    let users = |week: u64| -> HashSet<String> {
        let mut out = Vec::new();
        // 25 blocks are a week, 8 of them more than two days.
        generator.write(week * 25 * BLOCK_EVENTS, 8 * BLOCK_EVENTS, &mut out);
        let lines = lines(&out);
        let user = |line: &&[u8]| {
            std::str::from_utf8(line)
                .unwrap()
                .split('"')
                .skip_while(|part| *part != "user_id")
                .nth(2)
                .map(str::to_owned)
        };
        lines.iter().map(|line| user(line).unwrap()).collect()
    };
    let first_days = users(0);
    for week in [1, 2, 4, 8] {
        assert!(users(week).intersection(&first_days).count() > 0, "nobody in week {week}");
    }
}
