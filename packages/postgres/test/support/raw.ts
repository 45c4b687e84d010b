/**
 * A client that speaks the protocol itself, and so can stop where no library does.
 */
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Net from "node:net"

const int16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255])

const int32 = (value: number): Buffer => Buffer.concat([int16(value >> 16), int16(value & 65535)])

const text = (value: string): Buffer => Buffer.from(`${value}\0`)

const message = (type: string, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

/** The version 3.0 of the protocol, and the parameters, which an empty one ends. */
const startup = message("", int32(196608), ...["user", "postgres", "database", "postgres", ""].map(text))

/**
 * Sends all of a statement but its last message (Sync), and then nothing more, as if its host had lost its power there. The
 * server executes the statement, and commits it only after that message. The connection stays open until the scope closes.
 */
export const withoutSync = Effect.fnUntraced(function*(sql: string) {
  const { port } = yield* PostgresServer.PostgresServer
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => Net.connect({ host: "127.0.0.1", port })),
    (socket) => Effect.sync(() => socket.destroy())
  )
  yield* Effect.callback<void>((resume) => {
    socket.on("error", () => {})
    socket.once("connect", () => socket.write(startup))
    // Its first response ends with ReadyForQuery.
    let received = Buffer.alloc(0)
    socket.on("data", (data) => {
      received = Buffer.concat([received, data])
      if (received.at(-6) === 0x5a) resume(Effect.void)
    })
  })
  const parse = message("P", text(""), text(sql), int16(0))
  const bind = message("B", text(""), text(""), int16(0), int16(0), int16(0))
  const execute = message("E", text(""), int32(0))
  socket.write(Buffer.concat([parse, bind, execute]))
})
