/**
 * A program whose sessions are collected as soon as they end in the middle of a header block. It prints "alive" if Node
 * has not aborted it. It needs `--expose-gc`.
 */
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { call, pair } from "../grpc/support/client.ts"
import * as Peer from "../grpc/support/Peer.ts"

const rounds = 50

/** A socket that has become readable after the session's, so that it is read in the same phase of the event loop. */
const collecting = Effect.callback<Net.Socket>((resume) => {
  const server = Net.createServer((socket) => resume(Effect.succeed(socket)))
  server.listen(0, "127.0.0.1", () => {
    Net.connect((server.address() as Net.AddressInfo).port, "127.0.0.1").on("data", () => globalThis.gc!())
  })
})

const program = Effect.gen(function*() {
  const socket = yield* collecting
  const { channel } = yield* pair({
    onRequest: (connection, stream) => {
      const header = (index: number): Buffer => Peer.block({ [`x-${index}`]: "value".repeat(20) })
      const next = connection.index % 2 === 0
        // Only a CONTINUATION may follow HEADERS without END_HEADERS.
        ? [Peer.encode(Peer.Type.DATA, 0, stream, Buffer.from("x"))]
        // Node accepts eight.
        : Array.from({ length: 9 }, (_, index) => Peer.encode(Peer.Type.CONTINUATION, 0, stream, header(index)))
      connection.write(Buffer.concat([Peer.encode(Peer.Type.HEADERS, 0, stream, Peer.block(Peer.okHeaders)), ...next]))
      socket.write("collect")
      const from = performance.now()
      while (performance.now() - from < 5) continue
    }
  }, { connect: { backoff: { first: "1 millis", longest: "1 millis" } } })
  let failed = 0
  while (failed < rounds) {
    const failure = yield* Effect.flip(call(channel, "x", { timeout: 10_000 }))
    if (failure.delivery === "Sent") failed++
    else yield* Effect.sleep("2 millis")
  }
})

await Effect.runPromise(Effect.scoped(program))
console.log("alive")
process.exit(0)
