/**
 * Attempts to connect: to all addresses of a target, raced, within a time limit.
 *
 * An attempt succeeds when the peer's SETTINGS arrive. A TCP connection alone proves nothing: a middlebox or the kernel
 * of a stopped process accepts it too. If an attempt neither succeeds nor fails, another starts in parallel: to the
 * next address, and later to the same one again. A connection whose first packets were lost may never succeed.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { connect as connectHttp2 } from "node:http2"
import { connect as connectTcp, isIP, type Socket } from "node:net"
import { checkServerIdentity, connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls"
import { Connection } from "./connection.ts"
import type { KeepAliveOptions, PingPace } from "./keepAlive.ts"
import { addresses, order, type Resolve } from "./resolve.ts"
import type { Target } from "./target.ts"
import type { Address, TlsMaterial, TlsOptions } from "./Transport.ts"

/** Times are in milliseconds. */
export interface ConnectOptions {
  readonly target: Target
  readonly tls: TlsOptions | undefined
  readonly resolve: Resolve
  readonly timeout: number
  readonly nextAddressAfter: number
  readonly sameAddressAfter: number
  readonly window: { readonly stream: number; readonly connection: number }
  readonly keepAlive: KeepAliveOptions
}

/** Connects. Fails with the reason if no address can be connected to. */
export const make = (options: ConnectOptions, pace: PingPace) => {
  let last: ReadonlyArray<Address> = []
  const candidates = (avoid: string | undefined): Effect.Effect<ReadonlyArray<Address>, string> =>
    options.target._tag === "Unix"
      ? Effect.succeed([{ address: options.target.path, family: 0 }])
      : Effect.map(addresses(options.target, options.resolve, last), (found) => order(last = found, avoid))

  const attempts = Effect.fnUntraced(function*(avoid: string | undefined, opened: Set<Connection>) {
    const material = yield* options.tls?.material ?? Effect.succeed({})
    const found = yield* candidates(avoid)
    return yield* race(
      found.map((address) =>
        overtaken(options, Effect.suspend(() => attempt(options, address, material, pace, opened)))
      ),
      options.nextAddressAfter
    )
  })

  /** The address to avoid is tried last. */
  return (avoid: string | undefined): Effect.Effect<Connection, string> =>
    Effect.suspend(() => {
      const opened = new Set<Connection>()
      return attempts(avoid, opened).pipe(
        Effect.timeoutOrElse({
          duration: options.timeout,
          orElse: () => Effect.fail(`no HTTP/2 connection within ${options.timeout} ms`)
        }),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            // Two attempts can succeed at the same time.
            for (const connection of opened) {
              if (!Exit.isSuccess(exit) || exit.value !== connection) connection.destroy("another was faster")
            }
          })
        )
      )
    })
}

/** The first attempt to succeed. Each starts when the one before it has failed, or after this many milliseconds. */
const race = Effect.fnUntraced(function*(attempts: ReadonlyArray<Effect.Effect<Connection, string>>, millis: number) {
  const turns = attempts.map(() => Deferred.makeUnsafe<void>())
  const nextTurn = (index: number): Effect.Effect<void> =>
    index + 1 < turns.length ? Effect.asVoid(Deferred.succeed(turns[index + 1]!, undefined)) : Effect.void
  const problems = new Set<string>()
  yield* Deferred.succeed(turns[0]!, undefined)
  return yield* Effect.raceAll(attempts.map((attempt, index) =>
    Effect.andThen(
      Deferred.await(turns[index]!),
      Effect.raceFirst(
        Effect.tapError(
          attempt,
          (problem) => Effect.andThen(Effect.sync(() => problems.add(problem)), nextTurn(index))
        ),
        Effect.andThen(Effect.andThen(Effect.sleep(millis), nextTurn(index)), Effect.never)
      )
    )
  )).pipe(Effect.mapError(() => [...problems].join("; ")))
})

/** The attempt, repeated in parallel after increasing waits, until one of them ends. */
const overtaken = (
  { sameAddressAfter, timeout }: Pick<ConnectOptions, "sameAddressAfter" | "timeout">,
  attempt: Effect.Effect<Connection, string>,
  wait = sameAddressAfter
): Effect.Effect<Connection, string> =>
  wait >= timeout ? attempt : Effect.raceFirst(
    attempt,
    Effect.andThen(
      Effect.sleep(wait),
      Effect.suspend(() => overtaken({ sameAddressAfter, timeout }, attempt, wait * 2))
    )
  )

/** One attempt to connect to one address. */
const attempt = (
  options: ConnectOptions,
  address: Address,
  material: TlsMaterial,
  pace: PingPace,
  opened: Set<Connection>
): Effect.Effect<Connection, string> =>
  Effect.callback((resume) => {
    const { target, window } = options
    let problem: string | undefined
    const fail = (reason: string): void => resume(Effect.fail(`${describe(target, address)}: ${reason}`))
    let socket: Socket
    try {
      socket = target.secure ? openTls(options, address, material) : connectTcp(endpointOf(target, address))
    } catch (error) {
      // OpenSSL's message names the violated rule, never the key.
      return fail(`TLS cannot be used: ${(error as Error).message}`)
    }
    socket.setNoDelay(true)
    // A TLS alert after the handshake, such as for a missing certificate, destroys the session without an event.
    socket.on("error", (error) => {
      problem ??= error.message
      fail(problem)
      session.destroy()
      socket.destroy()
    })
    // The URL is not used: requests state scheme and authority themselves.
    const session = connectHttp2("http://localhost", {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: window.stream },
      // The limit includes data that waits to be sent. Beyond it Node would reject requests.
      maxSessionMemory: 2048
    })
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(window.connection)
    })
    const onError = (error: Error): void => void (problem ??= error.message)
    const onClose = (): void => fail(problem ?? closedEarly)
    const stopListening = (): void => {
      session.off("close", onClose)
    }
    session.on("error", onError)
    session.once("close", onClose)
    // This check comes first: Node aborts the process if the socket is gone when the session takes it over.
    socket.prependOnceListener(target.secure ? "secureConnect" : "connect", () => {
      if (target.secure && (socket as TLSSocket).alpnProtocol !== "h2") {
        fail("the server does not offer HTTP/2 (ALPN h2)")
        session.destroy()
      } else if (socket.destroyed) {
        session.destroy()
      }
    })
    session.once("remoteSettings", () => {
      stopListening()
      session.off("error", onError)
      const connection = new Connection(session, socket, address, options.keepAlive, pace)
      opened.add(connection)
      resume(Effect.succeed(connection))
    })
    return Effect.sync(() => {
      stopListening()
      session.destroy()
      socket.destroy()
    })
  })

const closedEarly = "the server closed the connection before its SETTINGS"

const describe = (target: Target, { address }: Address): string =>
  target._tag === "Unix" ? address : isIP(address) === 6 ? `[${address}]:${target.port}` : `${address}:${target.port}`

const endpointOf = (target: Target, { address }: Address) =>
  target._tag === "Unix" ? { path: target.path } : { host: address, port: target.port }

const openTls = ({ target, tls }: ConnectOptions, address: Address, material: TlsMaterial): Socket => {
  const name = tls?.serverName ?? (target._tag === "Host" ? target.host : "localhost")
  const tlsOptions: ConnectionOptions = {
    ...endpointOf(target, address),
    ALPNProtocols: ["h2"],
    // Stated, because the default is what NODE_TLS_REJECT_UNAUTHORIZED says.
    rejectUnauthorized: true,
    // The certificate must match the target's name, not the connected address.
    checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate)
  }
  // SNI is for names only. For an address it stays unset, because Deno rejects an empty one.
  if (isIP(name) === 0) tlsOptions.servername = name
  if (tls?.insecureSkipVerify === true) {
    tlsOptions.rejectUnauthorized = false
    tlsOptions.checkServerIdentity = () => undefined
  }
  if (material.ca !== undefined) tlsOptions.ca = material.ca
  if (material.certificate !== undefined) tlsOptions.cert = material.certificate
  if (material.key !== undefined) tlsOptions.key = material.key
  return connectTls(tlsOptions)
}
