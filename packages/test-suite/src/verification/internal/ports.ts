/**
 * Free loopback ports, reserved for this process until they are released, also while no server listens on them.
 *
 * They are below the ranges for outgoing connections of Linux (32768) and macOS (49152). Inside those ranges, the port of a
 * server that is down could become the local port of a connection, even of the client that tries to reach the server, which
 * TCP would then connect to itself.
 *
 * Port P of 127.0.0.1 belongs to the process that listens on port P of 127.0.0.2. This separates concurrent test runs, leaves
 * no file, and ends with the process. Without a 127.0.0.2 (macOS), two runs may choose the same port, so code that binds a
 * port must be able to retry.
 */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

const lowest = 12_000
const count = 20_000
const claimAddress = "127.0.0.2"

/** By port; `undefined` if the claim is only known to this process. */
const claims = new Map<number, Net.Server | undefined>()
/** Test processes start at different ports, so they rarely collide. */
let next = (process.pid * 7_919) % count

/** Continues the search at this port. */
export const startAt = (port: number): void => {
  next = port - lowest
}

/** The server, or the code of the error that prevented it. */
const listen = (port: number, host: string): Effect.Effect<Net.Server | string> =>
  Effect.callback((resume) => {
    const server = Net.createServer((socket) => socket.destroy())
    server.once("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? "")))
    server.listen({ port, host, exclusive: true }, () => {
      server.unref()
      resume(Effect.succeed(server))
    })
  })

const close = (server: Net.Server): Effect.Effect<void> =>
  Effect.callback((resume) => void server.close(() => resume(Effect.void)))

/** A free port, which no other test process chooses until it is released. */
export const freePort: Effect.Effect<number> = Effect.suspend(() => {
  const port = lowest + next
  next = (next + 1) % count
  return claims.has(port) ? freePort : Effect.flatMap(claim(port), (free) => free ? Effect.succeed(port) : freePort)
})

const claim = Effect.fnUntraced(function*(port: number) {
  claims.set(port, undefined)
  const claimed = yield* listen(port, claimAddress)
  if (claimed === "EADDRINUSE" || claimed === "EACCES") return yield* Effect.as(releasePort(port), false)
  if (typeof claimed !== "string") claims.set(port, claimed)
  const tried = yield* listen(port, "127.0.0.1")
  if (typeof tried === "string") return yield* Effect.as(releasePort(port), false)
  return yield* Effect.as(close(tried), true)
})

/** Releases the port. */
export const releasePort = (port: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    const claimed = claims.get(port)
    claims.delete(port)
    return claimed === undefined ? Effect.void : close(claimed)
  })
