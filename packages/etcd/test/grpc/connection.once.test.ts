/**
 * A connection whose stream ids are used up. Otherwise that takes 2^30 calls.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Http2 from "node:http2"
import * as Net from "node:net"
import { Connection, type OpenCall } from "../../src/grpc/connection.ts"
import { PingPace } from "../../src/grpc/keepAlive.ts"
import { responding } from "./support/client.ts"
import * as Peer from "./support/Peer.ts"

it.live("a connection retires before its stream ids are used up, and closes when its streams have ended", () =>
  Effect.gen(function*() {
    const peer = yield* Peer.make(responding)
    const socket = Net.connect(peer.port, "127.0.0.1")
    const session = Http2.connect("http://localhost", { createConnection: () => socket })
    yield* Effect.callback<void>((resume) => void session.once("remoteSettings", () => resume(Effect.void))) // Documented, but not in the types.
    ;(session as unknown as { setNextStreamID: (id: number) => void }).setNextStreamID(2 ** 31 - 2 ** 16 - 1)
    const connection = new Connection(
      session,
      socket,
      { address: "127.0.0.1", family: 4 },
      { time: 1e5, timeout: 1e5, minimumInterval: 1e5, suspectAfter: 1e5, checkIdleAfter: 1e5 },
      new PingPace()
    )
    const events: Array<string> = []
    const ignore = () => {}
    connection.own({
      onRoom: ignore,
      onSuspect: ignore,
      onRecovered: ignore,
      onRetired: (_, problem) => events.push(problem),
      onClosed: () => events.push("closed")
    })
    const calls: Array<OpenCall> = []
    const call = (): OpenCall => {
      calls.push({ abandon: ignore })
      return calls.at(-1)!
    }
    const headers = { ":method": "POST", ":path": "/" }
    const streams = [connection.open(headers, call(), true)]
    assert.isTrue(connection.hasRoom)
    streams.push(connection.open(headers, call(), true))
    assert.isFalse(connection.hasRoom)
    assert.deepStrictEqual(events, ["the connection has used up its stream ids"])
    for (const [i, stream] of streams.entries()) {
      stream.on("close", () => connection.closed(stream, calls[i]!, true))
      stream.resume()
      stream.end(Peer.message("x"))
    }
    yield* (yield* peer.connection(0)).until(({ isEnded }) => isEnded)
    assert.deepStrictEqual(events.slice(1), ["closed"])
  }))
