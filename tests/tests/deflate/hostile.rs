//! What a peer can do with compression that it could not do without.

use fanfare_tests::raw::{frame, masked, op};
use fanfare_tests::{Server, eventually, topic};

use crate::kit::{Member, deflate, deflated, ticks};

#[test]
fn a_bomb_ends_with_1009_long_before_memory_grows() {
    let server = Server::with(&["--deflate", "--message-bytes=1000000"]);
    let path = format!("/topics/{}", topic("bomb"));
    let mut bystander = Member::of(&server, &path, Some(15));
    // 64 MiB in 64 KiB.
    let bomb = deflated(op::BINARY, &vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000, "{}", bomb.len());
    bystander.send_text("before");
    assert_eq!(bystander.read_text(), "before");
    let before = server.resident_bytes();
    for _ in 0..20 {
        let mut bomber = Member::of(&server, &path, Some(15));
        bomber.raw.send(&bomb);
        assert_eq!(bomber.raw.read_close().0, 1009);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "20 bombs of 64 MiB took {grown} bytes");
    bystander.send_text("after");
    assert_eq!(bystander.read_text(), "after", "nothing of them was broadcast");
    let metrics = server.metrics();
    assert_eq!(metrics.closes("message_too_big"), 20);
}

#[test]
fn as_much_as_is_allowed_is_taken_and_one_byte_more_is_not() {
    let server = Server::with(&["--deflate", "--message-bytes=5000"]);
    let path = format!("/topics/{}", topic("edge"));
    let mut member = Member::of(&server, &path, Some(15));
    member.send(op::BINARY, &[7; 5000]);
    assert_eq!(member.read().payload, [7; 5000]);
    member.send(op::BINARY, &[7; 5001]);
    assert_eq!(member.raw.read_close().0, 1009);
}

#[test]
fn what_is_no_deflate_stream_or_no_text_ends_its_connection_alone() {
    let server = Server::with(&["--deflate"]);
    let path = format!("/topics/{}", topic("broken"));
    let mut bystander = Member::of(&server, &path, Some(15));
    let cut = deflate(ticks(4000).as_bytes());
    let cases = [
        ("a reserved block type", masked(0xc2, &[0x07, 0xff, 0xff]), 1007),
        ("half a stream", masked(0xc1, &cut[..cut.len() / 2]), 1007),
        ("no UTF-8", deflated(op::TEXT, &[0xff; 100]), 1007),
        ("RSV1 on a ping", masked(0xc9, &deflate(b"x")), 1002),
        ("RSV2", masked(0xa1, b"x"), 1002),
    ];
    for (what, bytes, code) in cases {
        let mut member = Member::of(&server, &path, Some(15));
        member.raw.send(bytes);
        assert_eq!(member.raw.read_close().0, code, "{what}");
    }
    let mut plain = Member::of(&server, &path, None);
    plain.raw.send(deflated(op::TEXT, b"nobody agreed"));
    assert_eq!(plain.raw.read_close().0, 1002, "without the extension RSV1 is reserved");
    bystander.send_text("still here");
    assert_eq!(bystander.read_text(), "still here");
}

#[test]
fn compressed_plain_and_fragmented_messages_mix_and_control_frames_come_between() {
    let server = Server::with(&["--deflate"]);
    let mut member = Member::of(&server, &format!("/topics/{}", topic("mixed")), Some(15));
    let text = ticks(3000);
    let payload = deflate(text.as_bytes());
    let (first, rest) = payload.split_at(payload.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    member.raw.send(frame(op::TEXT, b"plain"));
    member.raw.send(masked(0x40 | op::TEXT, first));
    member.raw.send(frame(op::PING, b"between"));
    member.raw.send(masked(op::CONTINUATION, second));
    member.raw.send(frame(op::CONTINUATION, third));
    member.send(op::TEXT, b"");
    assert_eq!(member.read_text(), "plain");
    let pong = member.raw.read_frame();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (op::PONG, b"between".as_slice()));
    assert_eq!(member.read_text(), text);
    assert_eq!(member.read_text(), "");
    let metrics = server.metrics();
    eventually("it is counted", || metrics.count("fanfare_inflated_messages_total", &[]) == 2);
}
