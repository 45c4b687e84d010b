/**
 * Chooses free loopback ports, and keeps them for this process until they are given back, also while nobody listens on
 * them.
 *
 * They lie below the ranges from which Linux (32768) and macOS (49152) take the ports of outgoing connections. Taken from
 * within, a port whose server is down for a while could become the local port of somebody's connection, even of the
 * very client that tries to reach it, which TCP then connects to itself.
 *
 * Port P of 127.0.0.1 belongs to the process that listens on port P of 127.0.0.2. That keeps two test runs apart, leaves
 * no file, and ends with the process. Where there is no 127.0.0.2 (macOS) two runs may still choose the same port:
 * who binds it must be ready to retry.
 */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

const lowest = 12_000
const count = 20_000
const claimAddress = "127.0.0.2"

/** By port; `undefined` where the claim is known to this process alone. */
const claims = new Map<number, Net.Server | undefined>()
/** Two test processes start in different places, so that they seldom meet. */
let next = (process.pid * 7_919) % count

/** Where to look first from here on. */
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

/** A port that nobody listens on, and that no other test process will choose until it is given back. */
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

/** Gives the port back. */
export const releasePort = (port: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    const claimed = claims.get(port)
    claims.delete(port)
    return claimed === undefined ? Effect.void : close(claimed)
  })
