/**
 * Unary calls on a scripted HTTP/2 peer: how they end, and what is then known about the request.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Reset, Status } from "../../src/grpc/status.ts"
import type { Delivery, Failure, Progress } from "../../src/grpc/Transport.ts"
import { timedWithoutStalls, unlessStalled } from "../support/stalls.ts"
import { bytes, call, failureOf, pair, path, responding, start, timed } from "./support/client.ts"
import * as Peer from "./support/Peer.ts"

const check = (failure: Failure, code: number, delivery: Delivery, details: RegExp) => {
  assert.match(failure.details, details)
  assert.deepStrictEqual({ code: failure.code, delivery: failure.delivery }, { code, delivery })
}

/** Repeats a call while each failure is certain not to have been processed. */
const untilProcessed = <A>(calling: Effect.Effect<A, Failure>) =>
  Effect.retry(Effect.tapError(calling, () => Effect.sleep("5 millis")), {
    while: ({ delivery }) => delivery !== "Sent"
  })

/** How a call ends on a peer with this script. */
const endsBy = Effect.fnUntraced(function*(onRequest: NonNullable<Peer.Script["onRequest"]>) {
  const { channel } = yield* pair({ onRequest })
  return yield* failureOf(channel, { timeout: 10_000 })
})

describe("a unary call", () => {
  it.live("a unary call sends one message and returns the response", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding)
      assert.strictEqual(yield* call(channel, "hello"), "re: hello")
      assert.strictEqual(yield* call(channel, ""), "re: ")
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("a unary call of a bidirectional method keeps its request open until the response has arrived, if the options say so", () =>
    Effect.gen(function*() {
      const ended: Array<string> = []
      const { channel, peer } = yield* pair({
        onFrame: (connection, { flags, stream, type }) => {
          if (type !== Peer.Type.DATA) return
          const isEnd = (flags & 1) === 1
          ended.push(isEnd ? "end" : "request")
          if (isEnd) return connection.trailers(stream, 0)
          connection.headers(stream, Peer.okHeaders)
          connection.data(stream, Peer.message("kept"))
        }
      })
      assert.strictEqual(yield* call(channel, "x", { endAfterResponse: true }), "kept")
      yield* peer.connections[0]!.until(() => ended.includes("end"))
      assert.deepStrictEqual(ended, ["request", "end"])
    }))

  it.live("a call that is cancelled before its turn is never sent, and fails as not sent", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding)
      let isCancelled = false
      // The call is waiting for the connection.
      const waiting = yield* start(call(channel, "cancelled", { isCancelled: () => isCancelled }))
      isCancelled = true
      const result = yield* waiting.result
      check(Result.getOrThrow(Result.flip(result)), Status.CANCELLED, "NotSent", /cancelled before it was sent/)
      assert.strictEqual(yield* call(channel, "next"), "re: next")
      assert.strictEqual(peer.connections[0]!.requests.size, 1)
    }))

  it.live("a unary call reads a response whose frames arrive byte by byte", () =>
    Effect.gen(function*() {
      const { channel } = yield* pair({
        onRequest: (connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          for (const byte of Peer.message("fragmented")) connection.data(stream, Buffer.from([byte]))
          connection.data(stream, Buffer.alloc(0))
          connection.trailers(stream, 0)
        }
      })
      assert.strictEqual(yield* call(channel), "fragmented")
    }))

  it.live("a unary call reads a response whose TCP segments hold one byte each", () =>
    Effect.gen(function*() {
      const { channel } = yield* pair({
        onRequest: (connection, stream) => {
          connection.socket.setNoDelay(true)
          const all = Buffer.concat([
            Peer.encode(Peer.Type.HEADERS, 4, stream, Peer.block(Peer.okHeaders)),
            Peer.encode(Peer.Type.DATA, 0, stream, Peer.message("segments")),
            Peer.encode(Peer.Type.HEADERS, 5, stream, Peer.block({ "grpc-status": "0" }))
          ])
          const next = (at: number): void => {
            if (at < all.length) connection.socket.write(all.subarray(at, at + 1), () => setImmediate(next, at + 1))
          }
          next(0)
        }
      })
      assert.strictEqual(yield* call(channel), "segments")
    }))

  it.live("unary calls send and receive messages larger than every window, many at a time", () =>
    Effect.gen(function*() {
      const { channel } = yield* pair({
        ...responding,
        onFrame: (connection, frame) => {
          // A peer that reads everything immediately.
          if (frame.type !== Peer.Type.DATA || frame.payload.length === 0) return
          const update = Buffer.alloc(4)
          update.writeUInt32BE(frame.payload.length)
          connection.write(Peer.encode(Peer.Type.WINDOW_UPDATE, 0, 0, update))
          connection.write(Peer.encode(Peer.Type.WINDOW_UPDATE, 0, frame.stream, update))
        }
      })
      const large = "x".repeat(1024 * 1024)
      const responses = yield* Effect.all(Array.from({ length: 12 }, () => call(channel, large)), {
        concurrency: "unbounded"
      })
      assert.isTrue(responses.every((response) => response.length === large.length + 4))
    }))

  describe("a unary call fails as sent", () => {
    it.live("a trailers-only response fails a call with its status and its decoded message", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection, stream) =>
          connection.headers(
            stream,
            { ...Peer.okHeaders, "grpc-status": "5", "grpc-message": "%E4%BD%A0 100%25 %zz" },
            true
          )
        )
        check(failure, Status.NOT_FOUND, "Sent", /^你 100% %zz$/)
      }))

    it.live("the status in the trailers fails a call, also after a message", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          connection.data(stream, Peer.message("ignored"))
          connection.trailers(stream, 9, "not now")
        })
        check(failure, Status.FAILED_PRECONDITION, "Sent", /^not now$/)
      }))

    for (
      const [status, code] of [[400, 13], [401, 16], [403, 7], [404, 12], [429, 14], [502, 14], [503, 14], [500, 2]]
    ) {
      it.live(`HTTP status ${status} from a proxy fails a call with the matching gRPC status`, () =>
        Effect.gen(function*() {
          const failure = yield* endsBy((connection, stream) => {
            connection.headers(stream, { ":status": `${status}`, "content-type": "text/html" })
            connection.data(stream, bytes("<html>"), true)
          })
          check(failure, code!, "Sent", new RegExp(`HTTP status ${status} \\(text/html\\)`))
        }))
    }

    it.live("a response that is not gRPC fails a call", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection, stream) => {
          connection.headers(stream, { ":status": "200", "content-type": "text/html" })
          connection.data(stream, bytes("<html>"), true)
        })
        check(failure, Status.UNKNOWN, "Sent", /content-type is text\/html/)
      }))

    it.live("a response without a grpc-status fails a call", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          connection.data(stream, Peer.message("response"), true)
        })
        check(failure, Status.UNKNOWN, "Sent", /without a grpc-status/)
      }))

    it.live("a grpc-status that is not a number fails a call", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          connection.trailers(stream, "fine")
        })
        check(failure, Status.UNKNOWN, "Sent", /invalid grpc-status: fine/)
      }))

    it.live("a response with status OK and no message, several messages or part of one fails a call", () =>
      Effect.gen(function*() {
        const none = yield* endsBy((connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          connection.trailers(stream, 0)
        })
        check(none, Status.INTERNAL, "Sent", /without a message/)
        const several = yield* endsBy((connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          connection.data(stream, Buffer.concat([Peer.message("a"), Peer.message("b")]))
          connection.trailers(stream, 0)
        })
        check(several, Status.INTERNAL, "Sent", /several messages/)
        const part = yield* endsBy((connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          connection.data(stream, Peer.message("cut off").subarray(0, 8))
          connection.trailers(stream, 0)
        })
        check(part, Status.INTERNAL, "Sent", /middle of a message/)
      }))

    it.live("a compressed message fails a call and resets the stream", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({
          onRequest: (connection, stream) => {
            connection.headers(stream, Peer.okHeaders)
            connection.data(stream, Peer.message("zip", 1))
          }
        })
        check(yield* failureOf(channel), Status.INTERNAL, "Sent", /compressed/)
        const connection = yield* peer.connection(0)
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 1) === 1)
      }))

    it.live("a message beyond the limit of the call or of the channel fails the call, and the error names the limit", () =>
      Effect.gen(function*() {
        const { channel } = yield* pair(
          { onRequest: (connection, stream) => connection.respond(stream, "x".repeat(101)) },
          { maxMessageSize: 100 }
        )
        check(
          yield* failureOf(channel),
          Status.RESOURCE_EXHAUSTED,
          "Sent",
          /101 bytes; .*maxMessageSize\) is 100 bytes/
        )
        check(yield* failureOf(channel, { maxMessageSize: 7 }), Status.RESOURCE_EXHAUSTED, "Sent", /is 7 bytes/)
        assert.lengthOf(yield* call(channel, "", { maxMessageSize: 101 }), 101)
      }))

    for (
      const [name, reset, code] of [
        ["NO_ERROR", 0, Status.UNKNOWN],
        ["INTERNAL_ERROR", 2, Status.INTERNAL],
        ["CANCEL", 8, Status.CANCELLED],
        ["ENHANCE_YOUR_CALM", 11, Status.RESOURCE_EXHAUSTED],
        ["INADEQUATE_SECURITY", 12, Status.PERMISSION_DENIED],
        ["HTTP/2 error 99", 99, Status.INTERNAL]
      ] as const
    ) {
      it.live(`a call fails as sent if the server resets its stream with ${name}`, () =>
        Effect.gen(function*() {
          const failure = yield* endsBy((connection, stream) => connection.reset(stream, reset))
          check(failure, code, "Sent", reset === 0 ? /without a grpc-status/ : new RegExp(name))
        }))
    }

    it.live("a call fails as sent if the server rejects a stream after a part of the response", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection, stream) => {
          connection.headers(stream, Peer.okHeaders)
          connection.reset(stream, Reset.REFUSED_STREAM)
        })
        check(failure, Status.UNAVAILABLE, "Sent", /REFUSED_STREAM/)
      }))

    it.live("a call fails as sent if the connection breaks, or is half-closed by the server", () =>
      Effect.gen(function*() {
        check(
          yield* endsBy((connection) => connection.socket.destroy()),
          Status.UNAVAILABLE,
          "Sent",
          /closed the connection|ECONNRESET/
        )
        check(yield* endsBy((connection) => connection.socket.end()), Status.UNAVAILABLE, "Sent", /closed|ECONNRESET/)
      }))

    it.live("a call fails as sent if the server sends data that is not HTTP/2", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection) =>
          connection.write(bytes("HTTP/1.1 400 Bad Request\r\n\r\n".repeat(9)))
        )
        assert.strictEqual(failure.delivery, "Sent")
        assert.strictEqual(failure.code, Status.UNAVAILABLE)
      }))

    it.live("a response with more headers than are accepted fails a call", () =>
      Effect.gen(function*() {
        const failure = yield* endsBy((connection, stream) =>
          connection.headers(stream, {
            ...Peer.okHeaders,
            ...Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`x-${i}`, "y".repeat(40)]))
          })
        )
        check(failure, Status.RESOURCE_EXHAUSTED, "Sent", /ENHANCE_YOUR_CALM\).*more than 128 headers/)
      }))

    for (const part of ["headers", "trailers"] as const) {
      it.live(`a response whose ${part} include one above 64 KiB fails all calls of the connection, and the error names the limit`, () =>
        Effect.gen(function*() {
          const { channel, peer } = yield* pair({
            onRequest: (connection, stream, message) => {
              if (connection.index > 0) return connection.respond(stream)
              if (message.toString() !== "last") return
              if (part === "trailers") {
                connection.headers(stream, Peer.okHeaders)
                connection.data(stream, Peer.message("response"))
              }
              const status = part === "headers" ? Peer.okHeaders : { "grpc-status": "0" }
              connection.largeHeaders(stream, { ...status, "x-large": "y".repeat(70_000) }, part === "trailers")
            }
          })
          const other = yield* start(failureOf(channel))
          yield* (yield* peer.connection(0)).until(({ requests }) => requests.size === 1)
          const last = yield* Effect.flip(call(channel, "last"))
          for (const failure of [last, Result.getOrThrow(yield* other.result)]) {
            check(failure, Status.UNAVAILABLE, "Sent", /headers above the limit of 64 KiB/)
          }
          assert.strictEqual(yield* untilProcessed(call(channel)), "response")
        }))
    }

    it.live("a response can end the call before the server has read the request, and the server need not read the rest", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({
          onFrame: (connection, frame) => {
            if (frame.type === Peer.Type.HEADERS) {
              connection.headers(
                frame.stream,
                { ...Peer.okHeaders, "grpc-status": "8", "grpc-message": "too large" },
                true
              )
            }
          }
        })
        // More than the peer's window, which never grows.
        check(yield* Effect.flip(call(channel, "x".repeat(200_000))), Status.RESOURCE_EXHAUSTED, "Sent", /too large/)
        const connection = yield* peer.connection(0)
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 1) === 1)
      }))
  })

  describe("calls that are known not to be processed", () => {
    it.live("a call is known not to be processed if the server rejects its stream", () =>
      Effect.gen(function*() {
        const progress: Progress = { delivery: "NotSent" }
        const { channel } = yield* pair({
          onRequest: (connection, stream) => connection.reset(stream, Reset.REFUSED_STREAM)
        })
        check(yield* failureOf(channel, { progress }), Status.UNAVAILABLE, "NotProcessed", /REFUSED_STREAM/)
        assert.strictEqual(progress.delivery, "NotProcessed")
      }))

    for (
      const [code, text] of [[0, ""], [0, "graceful_stop"], [Reset.ENHANCE_YOUR_CALM, "too_many_pings"], [
        2,
        "x"
      ], [Reset.REFUSED_STREAM, "refused"]] as const
    ) {
      it.live(`a GOAWAY (${code}, "${text}") with an earlier last stream means not processed for later streams, unknown for earlier ones`, () =>
        Effect.gen(function*() {
          const { channel, peer } = yield* pair({
            onRequest: (connection, stream) => {
              if (stream === 5) connection.goaway(3, code, text)
            }
          })
          const calls = []
          for (let i = 0; i < 3; i++) calls.push(yield* start(failureOf(channel, { timeout: 5000 })))
          const connection = yield* peer.connection(0)
          yield* connection.until((connection) => connection.requests.size === 3)
          const last = yield* calls[2]!.result
          assert.isTrue(Result.isSuccess(last))
          if (Result.isSuccess(last)) check(last.success, Status.UNAVAILABLE, "NotProcessed", new RegExp(text))
          connection.socket.destroy()
          for (const { result } of calls.slice(0, 2)) {
            const failure = yield* result
            if (Result.isSuccess(failure)) check(failure.success, Status.UNAVAILABLE, "Sent", new RegExp(text))
            else assert.fail("succeeded")
          }
        }))
    }
  })

  it.live("calls up to the last stream of a graceful GOAWAY complete, and new calls go to another connection", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({
        onRequest: (connection, stream, message) => {
          if (message.toString() === "old") {
            connection.goaway(2 ** 31 - 1)
            connection.goaway(stream)
          } else connection.respond(stream, "new connection")
        }
      })
      const old = yield* start(call(channel, "old"))
      const connection = yield* peer.connection(0)
      yield* connection.until(({ requests }) => requests.size === 1)
      assert.strictEqual(yield* untilProcessed(call(channel)), "new connection")
      connection.respond(1, "old connection")
      assert.deepStrictEqual(yield* old.result, Result.succeed("old connection"))
      yield* connection.until(({ isEnded }) => isEnded)
      assert.strictEqual(peer.connections.length, 2)
    }))

  it.live("calls on a connection that begins with a GOAWAY fail as not sent or not processed, until another connection carries them", () =>
    Effect.gen(function*() {
      let isFirst = true
      const { channel } = yield* pair({
        onConnection: (connection) => {
          if (isFirst) connection.goaway(0)
          isFirst = false
        },
        ...responding
      })
      assert.strictEqual(yield* untilProcessed(call(channel, "x")), "re: x")
    }))

  /** A complete exchange, frame by frame. The GOAWAY comes before one of the frames, or after the last. */
  const exchange: ReadonlyArray<(connection: Peer.PeerConnection, stream: number) => void> = [
    (connection, stream) => connection.headers(stream, Peer.okHeaders),
    (connection, stream) => connection.data(stream, Peer.message("response")),
    (connection, stream) => connection.trailers(stream, 0)
  ]
  for (let point = 0; point <= exchange.length; point++) {
    it.live(`a call completes if a GOAWAY that includes it comes after ${point} frames of the response`, () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({
          onRequest: (connection, stream) => {
            exchange.forEach((send, index) => {
              if (index === point) connection.goaway(stream)
              send(connection, stream)
            })
            if (point === exchange.length) connection.goaway(stream)
          }
        })
        assert.strictEqual(yield* call(channel), "response")
        yield* (yield* peer.connection(0)).until(({ isEnded }) => isEnded)
        assert.strictEqual(yield* untilProcessed(call(channel)), "response")
      }))

    it.live(`a call fails as sent if the connection breaks after ${point} of its response's frames, unless the response was complete`, () =>
      Effect.gen(function*() {
        const { channel } = yield* pair({
          onRequest: (connection, stream) => {
            for (const send of exchange.slice(0, point)) send(connection, stream)
            connection.socket.end()
          }
        })
        const result = yield* Effect.result(call(channel))
        if (point === exchange.length) return assert.deepStrictEqual(result, Result.succeed("response"))
        if (Result.isFailure(result)) check(result.failure, Status.UNAVAILABLE, "Sent", /closed|ECONNRESET/)
        else assert.fail("succeeded")
      }))
  }

  for (const [point, type] of [["its headers", Peer.Type.HEADERS], ["its message", Peer.Type.DATA]] as const) {
    it.live(`a call is known not to be processed if a GOAWAY that excludes it follows ${point}`, () =>
      Effect.gen(function*() {
        let isFirst = true
        const { channel } = yield* pair({
          onFrame: (connection, frame) => {
            if (frame.type !== type || !isFirst) return
            isFirst = false
            connection.goaway(0, 0, "excluded")
          },
          ...responding
        })
        check(yield* failureOf(channel), Status.UNAVAILABLE, "NotProcessed", /excluded/)
        assert.strictEqual(yield* untilProcessed(call(channel)), "re: request")
      }))
  }

  it.live("a call that is retried immediately does not spin on a connection that Node gave up in this turn of the event loop", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({
        onRequest: (connection, stream) => {
          if (connection.index > 0) return connection.respond(stream, "recovered")
          const oversized = Buffer.from("adb370448600000001", "hex")
          connection.write(Buffer.concat([
            Peer.encode(Peer.Type.HEADERS, 5, stream, Peer.block({ ":status": "264" })),
            Peer.encode(Peer.Type.HEADERS, 5, stream, Peer.block({ "grpc-status": "0" })),
            oversized
          ]))
        }
      })
      assert.strictEqual((yield* failureOf(channel)).delivery, "Sent")
      const failures = []
      for (let i = 0; i < 20; i++) {
        const result = yield* Effect.result(call(channel))
        if (Result.isFailure(result)) failures.push(result.failure)
      }
      assert.isAtMost(failures.length, 4)
      assert.isTrue(failures.every(({ delivery }) => delivery !== "Sent"))
      assert.strictEqual(peer.connections.length, 2)
    }))

  it.live("the process survives if a session that ended in the middle of a header block is collected at once", () =>
    Effect.gen(function*() {
      const file = fileURLToPath(new URL("../programs/collectsSessions.ts", import.meta.url))
      const output = yield* Effect.callback<string>((resume) => {
        const child = execFile(process.execPath, ["--expose-gc", file], (_, output, errors) => {
          resume(Effect.succeed(output + errors))
        })
        return Effect.sync(() => child.kill("SIGKILL"))
      })
      assert.strictEqual(output, "alive\n")
    }))

  it.live("a call ends with a response or a failure, whatever frames arrive in whatever order", () =>
    Effect.gen(function*() {
      let seed = 7
      const random = (below: number): number => {
        seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
        return Math.floor(seed / 2 ** 32 * below)
      }
      const junk = (): Buffer => Buffer.from(Array.from({ length: random(40) }, () => random(256)))
      const acts: ReadonlyArray<(connection: Peer.PeerConnection, stream: number) => void> = [
        ...exchange,
        (connection, stream) => connection.respond(stream),
        (connection, stream) => connection.respond(stream),
        (connection, stream) => connection.headers(stream, { ":status": `${100 + random(500)}` }, random(2) === 0),
        (connection, stream) => connection.data(stream, junk(), random(4) === 0),
        (connection, stream) => connection.trailers(stream, random(20), "x"),
        (connection, stream) => connection.reset(stream, random(15)),
        (connection) => connection.goaway(random(9), random(15), "junk"),
        (connection, stream) => connection.write(Peer.encode(random(12), random(256), random(3) * stream, junk())),
        (connection) => connection.write(junk()),
        (connection) => connection.settings({ [random(8)]: random(70_000) })
      ]
      const { channel } = yield* pair({
        onRequest: (connection, stream) => {
          for (let i = random(7); i > 0; i--) acts[random(acts.length)]!(connection, stream)
          if (random(2) === 0) connection.socket.end()
        }
      }, { connect: { backoff: { first: "1 millis", longest: "1 millis" }, timeout: "200 millis" } })
      const ends = new Map<string, number>()
      for (let round = 0; round < 300; round++) {
        const result = yield* Effect.result(call(channel, "fuzz", { timeout: 100 }))
        const end = Result.isSuccess(result) ? "response" : result.failure.delivery
        ends.set(end, (ends.get(end) ?? 0) + 1)
        // A call fails immediately while there is no connection.
        if (end === "NotSent") yield* Effect.sleep("2 millis")
      }
      // Every kind of end has occurred.
      assert.deepStrictEqual([...ends.keys()].sort(), ["NotProcessed", "NotSent", "Sent", "response"])
    }))

  describe("unary calls with a timeout", () => {
    it.live("a call with a timeout fails on time, resets its stream once, and sends its timeout to the server", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({})
        yield* channel.settle
        const progress: Progress = { delivery: "NotSent" }
        const failure = yield* failureOf(channel, { timeout: 50, progress })
        check(failure, Status.DEADLINE_EXCEEDED, "Sent", /no response within 50 ms/)
        const connection = yield* peer.connection(0)
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 1) === 1)
      }))

    it.live("a call fails at its own timeout, among calls with earlier and later ones", () =>
      Effect.gen(function*() {
        const { channel } = yield* pair({})
        const ends = yield* Effect.forEach([10_000, 90, 30, 60], (timeout) =>
          Effect.map(
            Effect.timeoutOption(timed(failureOf(channel, { timeout })), 2000),
            Option.map(({ millis }) => millis >= timeout - 1)
          ), { concurrency: "unbounded" })
        assert.deepStrictEqual(ends, [Option.none(), ...[90, 30, 60].map(() => Option.some(true))])
        const [late] = yield* timedWithoutStalls(failureOf(channel, { timeout: 20 }))
        assert.isBelow(late, 1500)
      }).pipe(Effect.scoped, unlessStalled(1000)))

    it.live("a call whose request a slow server does not read fails on time as sent, and resets its stream", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({})
        yield* channel.settle
        const failure = yield* Effect.flip(call(channel, "x".repeat(200_000), { timeout: 50 }))
        check(failure, Status.DEADLINE_EXCEEDED, "Sent", /no response within 50 ms/)
        const connection = yield* peer.connection(0)
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 1) === 1)
      }))

    it.live("a late call fails and continues: its response, its end and its cancellation come through what is pending", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({})
        const late = { lateAfter: 20, timeout: 20_000 }
        const pendingOf = Effect.map(failureOf(channel, late), (failure) => {
          check(failure, Status.DEADLINE_EXCEEDED, "Sent", /no response within 20 ms/)
          return Option.getOrThrow(Option.fromNullishOr(failure.pending))
        })
        yield* channel.settle
        const response = yield* pendingOf
        const connection = yield* peer.connection(0)
        yield* connection.until(({ requests }) => requests.size === 1)
        connection.respond(1, "late")
        assert.strictEqual(String(yield* response), "late")
        const early = yield* pendingOf
        yield* connection.until(({ requests }) => requests.size === 2)
        connection.headers(3, { ...Peer.okHeaders, "grpc-status": "5" }, true)
        // The response of the next call comes after that of this one.
        const next = yield* start(call(channel))
        yield* connection.until(({ requests }) => requests.size === 3)
        connection.respond(5)
        yield* next.result
        check(yield* Effect.flip(early), Status.NOT_FOUND, "Sent", /^$/)
        const cancelled = yield* start(yield* pendingOf)
        yield* connection.until(({ requests }) => requests.size === 4)
        yield* Fiber.interrupt(cancelled.fiber)
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 7) === 1)
        const over = yield* failureOf(channel, { lateAfter: 20, timeout: 60 })
        check(yield* Effect.flip(over.pending!), Status.DEADLINE_EXCEEDED, "Sent", /no response within 60 ms/)
      }).pipe(Effect.scoped, unlessStalled(1000)))

    it.live("a call fails as not sent at its timeout while there is no connection", () =>
      Effect.gen(function*() {
        const { channel } = yield* pair({ swallow: () => true })
        check(yield* failureOf(channel, { timeout: 50 }), Status.DEADLINE_EXCEEDED, "NotSent", /not sent within 50 ms/)
      }))
  })

  describe("interrupted unary calls", () => {
    it.live("an interrupted call resets its stream with CANCEL, once and immediately", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({})
        const progress: Progress = { delivery: "NotSent" }
        const calling = yield* start(call(channel, "x", { progress }))
        const connection = yield* peer.connection(0)
        yield* connection.until(({ requests }) => requests.size === 1)
        yield* Fiber.interrupt(calling.fiber)
        assert.strictEqual(progress.delivery, "Sent")
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 1) === 1)
        const frame = connection.frames.find(({ type }) => type === Peer.Type.RST_STREAM)
        assert.strictEqual(frame!.payload.readUInt32BE(0), Reset.CANCEL)
        // Any further frame would follow it.
        yield* Fiber.interrupt((yield* start(call(channel))).fiber)
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 3) === 1)
        assert.strictEqual(connection.count(Peer.Type.RST_STREAM, 1), 1)
      }))

    it.live("a call that is interrupted while its request waits for the server's window resets its stream too", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair({})
        const calling = yield* start(call(channel, "x".repeat(200_000)))
        const connection = yield* peer.connection(0)
        yield* connection.until(({ requests }) => (requests.get(1)?.length ?? 0) >= 65_535)
        yield* Fiber.interrupt(calling.fiber)
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 1) === 1)
      }))

    it.live("a call that is interrupted before it was sent never reaches the server", () =>
      Effect.gen(function*() {
        const { channel, peer } = yield* pair(responding)
        const progress: Progress = { delivery: "NotSent" }
        const calling = yield* start(call(channel, "cancelled", { progress }))
        yield* Fiber.interrupt(calling.fiber)
        assert.strictEqual(progress.delivery, "NotSent")
        assert.strictEqual(yield* call(channel, "next"), "re: next")
        assert.deepStrictEqual([...peer.connections[0]!.requests.values()].map((request) => `${request.subarray(5)}`), [
          "next"
        ])
      }))
  })

  it.live("a call with metadata above the limit fails as not sent, names it, and leaves the connection in use", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding)
      const within = { metadata: { token: "t".repeat(63_000), hasleader: "true" } }
      const beyond = { metadata: { token: "t".repeat(64_000), hasleader: "true" } }
      for (let i = 0; i < 5; i++) {
        check(
          yield* failureOf(channel, beyond),
          Status.RESOURCE_EXHAUSTED,
          "NotSent",
          /\(token, hasleader\).* is 64000/
        )
      }
      assert.strictEqual(yield* call(channel, "x", within), "re: x")
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("a call with metadata that HTTP/2 does not allow fails as not sent", () =>
    Effect.gen(function*() {
      const { channel } = yield* pair(responding)
      for (const metadata of [{ token: "line\nbreak" }, { Upper: "case" }, { ":path": "/other" }, { name: "\u00e9" }]) {
        check(yield* failureOf(channel, { metadata }), Status.INTERNAL, "NotSent", /^metadata "/)
      }
      check(yield* failureOf(channel, { metadata: { connection: "x" } }), Status.INTERNAL, "NotSent", /cannot be sent/)
      assert.strictEqual(yield* Effect.map(channel.unary(path, bytes("x")), String), "re: x")
    }))
})
