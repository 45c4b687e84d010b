/**
 * The pure parts of the transport: framing, statuses, headers, targets, the order of addresses, backoff.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import * as headers from "../../src/grpc/headers.ts"
import { delay } from "../../src/grpc/make.ts"
import { frame, MessageReader } from "../../src/grpc/messages.ts"
import * as resolve from "../../src/grpc/resolve.ts"
import * as status from "../../src/grpc/status.ts"
import * as target from "../../src/grpc/target.ts"

/** A seeded random: the same sequence in every run. */
const seeded = (seed: number) => () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return seed / 2 ** 32
}

const readAll = (reader: MessageReader): Array<Buffer> => {
  const found: Array<Buffer> = []
  for (let next = reader.next(); next !== undefined; next = reader.next()) found.push(next)
  return found
}

describe("the message reader", () => {
  it("the message reader returns the same messages however the bytes are cut into chunks", () => {
    const random = seeded(1)
    for (let round = 0; round < 300; round++) {
      const messages = Array.from(
        { length: Math.floor(random() * 6) },
        () => Buffer.alloc(Math.floor(random() ** 4 * 5000), Math.floor(random() * 256))
      )
      const all = Buffer.concat(messages.map(frame))
      const reader = new MessageReader(5000)
      const found: Array<Buffer> = []
      const most = [1, 3, 7, 100, 10_000][round % 5]!
      for (let at = 0; at < all.length;) {
        const size = 1 + Math.floor(random() * most)
        reader.push(all.subarray(at, at + size))
        at += size
        if (random() < 0.7) found.push(...readAll(reader))
      }
      found.push(...readAll(reader))
      assert.deepStrictEqual(found, messages)
      assert.isTrue(reader.isEmpty)
    }
  })

  it("after a problem the message reader neither throws nor hangs nor keeps bytes, whatever arrives", () => {
    const random = seeded(2)
    for (let round = 0; round < 3000; round++) {
      const reader = new MessageReader(1000)
      let count = 0
      for (let i = 0; i < 20; i++) {
        const chunk = Buffer.from(Array.from({ length: Math.floor(random() * 30) }, () =>
          // Mostly zeros, so that some prefixes are valid.
          random() < 0.6 ? 0 : Math.floor(random() * 256)))
        reader.push(chunk)
        for (const message of readAll(reader)) {
          count += 1
          assert.isAtMost(message.length, 1000)
        }
      }
      assert.isAtMost(count, 120)
      if (reader.problem !== undefined) assert.isTrue(reader.isEmpty)
    }
  })

  it("the message reader accepts messages up to the limit, and names the limit if one is larger", () => {
    const reader = new MessageReader(10)
    reader.push(frame(Buffer.alloc(10)))
    assert.lengthOf(reader.next()!, 10)
    reader.push(frame(Buffer.alloc(11)))
    assert.isUndefined(reader.next())
    assert.deepStrictEqual(reader.problem, {
      code: status.Status.RESOURCE_EXHAUSTED,
      details: "the server sent a message of 11 bytes; the limit (maxMessageSize) is 10 bytes",
      messageSize: 11
    })
  })

  it("the message reader reads a large message in one-byte chunks in linear time", () => {
    /** The fastest of a few runs, in milliseconds of CPU time: a stall of the machine is not counted. */
    const costOf = (size: number): number => {
      const bytes = frame(Buffer.alloc(size, 7))
      return Math.min(...Array.from({ length: 3 }, () => {
        const reader = new MessageReader(1e6)
        const from = process.cpuUsage()
        for (const byte of bytes) reader.push(Buffer.from([byte]))
        assert.lengthOf(reader.next()!, size)
        const { system, user } = process.cpuUsage(from)
        return (system + user) / 1000
      }))
    }
    costOf(20_000)
    // A reader that copies what it has read costs 256 times as much for 16 times the size.
    assert.isBelow(costOf(320_000), 100 * Math.max(costOf(20_000), 1))
  })
})

describe("a status", () => {
  it("the status comes from the trailers, and its message is decoded as far as it is encoded", () => {
    assert.deepStrictEqual(status.fromTrailers({ "grpc-status": "14", "grpc-message": "a%20b%" }), {
      code: 14,
      details: "a b%"
    })
    assert.strictEqual(status.decodeMessage("%C3%A9 %c3%A9 é"), "é é é")
    assert.isUndefined(status.fromTrailers({}))
    for (const invalid of ["", "x", "-1", "1.5", "0, 0", "99999999999"]) {
      assert.strictEqual(status.fromTrailers({ "grpc-status": invalid })!.code, status.Status.UNKNOWN, invalid)
    }
  })

  it("invalid trailers neither throw nor count as OK", () => {
    const random = seeded(3)
    const text = () =>
      String.fromCharCode(...Array.from({ length: Math.floor(random() * 8) }, () => 32 + random() * 94))
    for (let i = 0; i < 5000; i++) {
      const value = random() < 0.1 ? "0" : text()
      const found = status.fromTrailers({ "grpc-status": value, "grpc-message": `%${text()}` })
      assert.strictEqual(found!.code === 0, /^0+$/.test(value), value)
    }
  })
})

describe("a timeout header", () => {
  it("a timeout header has at most eight digits and is never shorter than the timeout", () => {
    const sizes: Record<string, number> = { m: 1, S: 1000, M: 60_000, H: 3_600_000 }
    for (const millis of [0, 0.2, 1, 1500.5, 99_999_999, 1e8, 1e8 + 1, 1e11, 1e13, 1e300]) {
      const [, digits, unit] = /^(\d{1,8})([mSMH])$/.exec(headers.formatTimeout(millis))!
      const value = Number(digits) * sizes[unit!]!
      if (millis < 1e14) assert.isAtLeast(value, Math.max(millis, 1))
      if (millis < 1e14) assert.isBelow(value, Math.max(millis, 1) + 2 * sizes[unit!]!)
    }
  })
})

describe("a target", () => {
  const parse = (url: string) => Option.getOrUndefined(target.fromUrl(url))

  it("a target is read from a URL in any case, with IPv6 addresses and Unix sockets", () => {
    assert.deepStrictEqual(parse("HTTP://Etcd.Example:2379"), {
      _tag: "Host",
      host: "Etcd.Example",
      port: 2379,
      secure: false
    })
    assert.deepStrictEqual(parse("https://[::1]:2379/"), { _tag: "Host", host: "::1", port: 2379, secure: true })
    assert.deepStrictEqual(parse("unix:///run/etcd.sock"), { _tag: "Unix", path: "/run/etcd.sock", secure: false })
    assert.deepStrictEqual(parse("unixs:///run/etcd.sock"), { _tag: "Unix", path: "/run/etcd.sock", secure: true })
  })

  it("a target is read from nothing else", () => {
    for (
      const url of [
        "",
        "etcd:2379",
        "http://etcd",
        "http://etcd:0",
        "http://etcd:65536",
        "http://a b:1",
        "http://[etcd]:1",
        "http://user@etcd:1",
        "http://etcd:1/path",
        "ftp://etcd:1",
        "http://::1:1"
      ]
    ) assert.isUndefined(parse(url), url)
  })

  it("a target's authority is host and port, with brackets around IPv6, or the name that is verified", () => {
    assert.strictEqual(target.authority(parse("http://etcd:1")!, undefined), "etcd:1")
    assert.strictEqual(target.authority(parse("http://[fe80::1%eth0]:1")!, undefined), "[fe80::1]:1")
    assert.strictEqual(target.authority(parse("unix:///x")!, undefined), "localhost")
    assert.strictEqual(target.authority(parse("https://10.0.0.1:1")!, "etcd.example"), "etcd.example")
  })
})

it("addresses alternate between families, and the one to avoid is last", () => {
  const six = (address: string) => ({ address, family: 6 })
  const four = (address: string) => ({ address, family: 4 })
  const found = [six("a"), six("b"), six("c"), four("d")]
  assert.deepStrictEqual(resolve.order(found, undefined).map(({ address }) => address), ["a", "d", "b", "c"])
  assert.deepStrictEqual(resolve.order(found, "a").map(({ address }) => address), ["d", "b", "c", "a"])
  assert.deepStrictEqual(resolve.order([four("a")], "a").map(({ address }) => address), ["a"])
})

it("backoff doubles up to the longest wait, and at least half of it is waited", () => {
  const backoff = { first: 100, longest: 1000 }
  assert.deepStrictEqual([0, 1, 2, 3, 4, 5, 99].map((failures) => delay(backoff, failures, 1)), [
    100,
    100,
    200,
    400,
    800,
    1000,
    1000
  ])
  assert.strictEqual(delay(backoff, 3, 0), 200)
})
