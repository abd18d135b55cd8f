//! Whatever a person, a script or a peer gives as a name or a place: it is refused, or it has
//! one spelling that gives it back.

use proptest::prelude::*;
use protocol::{
    Cursor, Epoch, FederatedRoom, HostName, LocalRoom, MessageId, Nick, ResumePoint, Room, Target,
    UserName, limits,
};
use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn any_text_is_refused_or_has_one_spelling(text in text()) {
        is_refused_or_survives(&text, Nick::parse);
        is_refused_or_survives(&text, HostName::parse);
        is_refused_or_survives(&text, UserName::parse);
        is_refused_or_survives(&text, Room::parse);
        is_refused_or_survives(&text, FederatedRoom::parse);
        is_refused_or_survives(&text, LocalRoom::parse);
        is_refused_or_survives(&text, Cursor::from_str);
        is_refused_or_survives(&text, ResumePoint::from_str);
        is_refused_or_survives(&text, MessageId::from_str);
        is_refused_or_survives(&text, Epoch::from_str);
    }

    #[test]
    fn any_target_is_refused_or_resolves_to_a_room(text in text(), me in crate::values::user()) {
        if let Ok(target) = Target::parse(&text) {
            let room = target.resolve(&me);
            prop_assert_eq!(Room::parse(room.as_str()), Ok(room.clone()));
            let seen = Target::parse(&room.seen_by(&me)).unwrap();
            prop_assert_eq!(seen.resolve(&me), room);
        }
    }

    #[test]
    fn what_parses_fits_its_limit(text in text()) {
        if let Ok(nick) = Nick::parse(&text) {
            prop_assert!(nick.as_str().len() <= limits::MAX_NICK_BYTES);
        }
        if let Ok(host) = HostName::parse(&text) {
            prop_assert!(host.as_str().len() <= limits::MAX_HOST_BYTES);
        }
        if let Ok(room) = FederatedRoom::parse(&text) {
            prop_assert!(room.as_str().len() <= limits::MAX_ROOM_NAME_BYTES + 1);
        }
    }

    #[test]
    fn every_value_survives_its_own_text(
        room in crate::values::room(),
        user in crate::values::user(),
        cursor in crate::values::cursor(),
        id in crate::values::message_id(),
    ) {
        prop_assert_eq!(room.to_string().parse(), Ok(room.clone()));
        prop_assert_eq!(user.to_string().parse(), Ok(user));
        prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        let point = ResumePoint::Each([(room, cursor)].into());
        prop_assert_eq!(point.to_string().parse(), Ok(point));
    }
}

/// Anything; what is made of the characters that names and cursors are made of; and near misses.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-f0-9#&@,.=;_-]{0,40}",
        "[#&]?[a-zA-Z0-9äß李\u{301}\u{3164}\u{1b}._-]{0,70}",
        "[a-c.-]{1,4}@[a-cA-C.-]{1,4}(,[a-c]{1,4}@[a-cA-C]{1,4})?",
        "[0-9a-f]{15,17}[.]?[0-9]{0,21}",
        "([#&][a-b]=[0-9a-f]{16}[.][0-9]{1,3};?){1,3}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{11,13}",
    ]
}

fn is_refused_or_survives<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>)
where
    T: Display + PartialEq + Debug,
    E: Display + Debug + PartialEq,
{
    match parse(text) {
        Ok(value) => {
            let spelled = value.to_string();
            assert!(!spelled.contains(char::is_control), "{spelled:?}");
            assert_eq!(parse(&spelled), Ok(value), "{text:?} became {spelled:?}");
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains(char::is_control), "{said:?}");
        }
    }
}
