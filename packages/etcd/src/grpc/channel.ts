/**
 * A channel: one endpoint, its connection, and the calls that wait for a connection.
 *
 * Calls keep their order: none overtakes one that waits for a connection, a check of the connection, or room for a
 * stream. This file is the state, synchronous and without fibers; `make.ts` is the edge to Effect.
 */
import type { Call, Line } from "./call.ts"
import type { Connection, Owner } from "./connection.ts"
import { Deadlines } from "./deadlines.ts"
import type { Origin } from "./headers.ts"
import { Status } from "./status.ts"
import type { State } from "./Transport.ts"

/** The functions that a channel gets from `make.ts`. */
export interface Environment {
  /** Begins to connect, at once or after a wait, unless the channel is connecting already. */
  readonly connect: (afterBackoff: boolean) => void
  /** How long the wait before an attempt can be, in milliseconds. */
  readonly longestBackoff: number
  /** Stops connecting. */
  readonly stopConnecting: () => void
  /** Called when the current connection has become suspect. */
  readonly onSilent: () => void
  /** Called when another connection has replaced a suspect one. */
  readonly onReplaced: () => void
}

export class ChannelState implements Line, Owner {
  readonly origin: Origin
  readonly maxMessageSize: number
  readonly deadlines = new Deadlines()
  readonly #environment: Environment
  readonly #queue = new Set<Call>()
  readonly #settling = new Set<() => void>()
  readonly #connections = new Set<Connection>()
  readonly #emptying = new Set<() => void>()
  #current: Connection | undefined
  /** The connection that was current until it became suspect. */
  #suspect: Connection | undefined
  #isChecking = false
  #state: State = "Idle"
  /** Whether a connection is needed, because a call failed or is waiting. */
  #isWanted = false
  /** The address to try last. */
  avoid: string | undefined
  /** Failed attempts since a connection last worked. */
  failures = 0
  problem: string | undefined

  constructor(origin: Origin, maxMessageSize: number, environment: Environment) {
    this.origin = origin
    this.maxMessageSize = maxMessageSize
    this.#environment = environment
  }

  get obstacle(): string {
    const connection = this.#current
    if (connection === undefined || !connection.isFull) return ""
    return `; the server's limit of ${connection.limit} streams at a time is reached`
  }

  get state(): State {
    return this.#state
  }

  // ---------------------------------------------------------------------------
  // calls
  // ---------------------------------------------------------------------------

  submit(call: Call): void {
    const connection = this.#current
    if (connection !== undefined && this.#queue.size === 0 && connection.hasRoom && !this.#needsCheck(connection)) {
      return call.begin(connection)
    }
    if (this.#state === "Closed") return call.reject(Status.CANCELLED, closed)
    if (this.#state === "Failed") {
      this.#isWanted = true
      return call.reject(Status.UNAVAILABLE, this.problem ?? "")
    }
    this.#queue.add(call)
    if (connection === undefined) this.#connect()
  }

  forget(call: Call): void {
    this.#queue.delete(call)
  }

  #pump(): void {
    for (const call of this.#queue) {
      const connection = this.#current
      if (connection === undefined || !connection.hasRoom || this.#needsCheck(connection)) return
      this.#queue.delete(call)
      call.begin(connection)
    }
  }

  /** Whether the connection has been silent for so long that a ping must first show that it works. */
  #needsCheck(connection: Connection): boolean {
    if (!connection.keepAlive.isStale) return this.#isChecking = false
    if (!this.#isChecking) {
      this.#isChecking = true
      connection.keepAlive.check()
    }
    return true
  }

  // ---------------------------------------------------------------------------
  // connecting
  // ---------------------------------------------------------------------------

  /** Whether it is known that calls can be sent, or that they cannot. */
  isSettled(): boolean {
    if (this.#state === "Closed") return true
    if (this.#current !== undefined) return !this.#needsCheck(this.#current)
    if (this.#state !== "Failed") {
      this.#connect()
      return false
    }
    this.#isWanted = true
    return true
  }

  onceSettled(onSettled: () => void): () => void {
    this.#settling.add(onSettled)
    return () => this.#settling.delete(onSettled)
  }

  #settle(): void {
    const settled = [...this.#settling]
    this.#settling.clear()
    for (const onSettled of settled) onSettled()
  }

  #connect(): void {
    if (this.#state === "Closed") return
    // What kept it from connecting when it was needed last may have passed long ago.
    if (this.#state === "Idle") this.problem = undefined
    this.#state = "Connecting"
    this.#environment.connect(false)
  }

  /** Pings the current connection, unless the server would end it for that. */
  check(): void {
    const keepAlive = this.#current?.keepAlive
    if (keepAlive?.mayCheck === true) keepAlive.check()
  }

  /** Replaces the current connection as soon as another one is open. */
  reconnect(): void {
    if (this.#current === undefined) return
    this.avoid = this.#current.address.address
    this.#environment.connect(false)
  }

  connected(connection: Connection): void {
    if (this.#state === "Closed") return connection.destroy(closed)
    const previous = this.#current
    const suspect = this.#suspect
    this.#connections.add(connection)
    this.#suspect = undefined
    this.#current = connection
    this.#isChecking = false
    this.#state = "Ready"
    this.#isWanted = false
    this.problem = undefined
    connection.own(this)
    previous?.drain()
    if (suspect !== undefined) {
      this.#environment.onReplaced()
      suspect.abandon()
    }
    if (this.#current !== connection) return
    this.#settle()
    this.#pump()
  }

  notConnected(problem: string): void {
    this.failures += 1
    this.problem = problem
    // A failed reconnection keeps the existing connection.
    if (this.#state === "Closed" || this.#current !== undefined) return
    this.#fail(problem)
  }

  #fail(problem: string): void {
    this.#state = "Failed"
    this.#isWanted = false
    this.#settle()
    for (const call of this.#queue) call.reject(Status.UNAVAILABLE, problem)
  }

  /** Whether to connect again after the wait that follows a failure. */
  isNeededAgain(): boolean {
    if (this.#state === "Failed") this.#state = this.#isWanted || this.#suspect !== undefined ? "Connecting" : "Idle"
    return this.#state === "Connecting"
  }

  /** Handles a request to connect that came while the connecting fiber was ending. */
  afterConnecting(): void {
    if (this.#state === "Connecting" || this.#state === "Failed") this.#environment.connect(this.#state === "Failed")
  }

  // ---------------------------------------------------------------------------
  // connection events
  // ---------------------------------------------------------------------------

  onRoom(connection: Connection): void {
    if (connection !== this.#current) return
    if (connection.hasResponded) {
      this.failures = 0
      if (connection.address.address !== this.avoid) this.avoid = undefined
    }
    if (this.#queue.size > 0) this.#pump()
    // The response to a ping arrived.
    if (this.#settling.size > 0 && !this.#needsCheck(connection)) this.#settle()
  }

  onRetired(connection: Connection): void {
    if (connection === this.#suspect) this.#suspect = undefined
    if (connection !== this.#current) return
    this.#current = undefined
    this.#state = "Idle"
    if (!connection.hasResponded && connection.age < this.#environment.longestBackoff) return this.#rejected(connection)
    if (this.#queue.size > 0 || this.#settling.size > 0) this.#connect()
  }

  onSuspect(connection: Connection): void {
    // No other connection will replace it here, but its calls can go to another channel.
    if (this.#state === "Closed") return connection.abandon()
    if (connection !== this.#current) return
    this.#current = undefined
    this.#suspect = connection
    this.avoid = connection.address.address
    this.#connect()
    this.#environment.onSilent()
  }

  onRecovered(connection: Connection): void {
    if (connection !== this.#suspect || !connection.isUsable) return
    this.#suspect = undefined
    this.#environment.stopConnecting()
    this.connected(connection)
  }

  onClosed(connection: Connection): void {
    this.#connections.delete(connection)
    this.onRetired(connection)
    if (this.#connections.size === 0) this.#emptied()
  }

  /**
   * Delays the next attempt after a connection that ended soon and before its first response. One that lasted longer
   * than the longest wait has delayed the next attempt itself.
   */
  #rejected(connection: Connection): void {
    this.failures += 1
    this.problem = connection.problem
    this.#fail(connection.problem)
    this.#environment.connect(true)
  }

  /** Takes no more calls. Connections close when their calls have ended. */
  drain(): void {
    if (this.#state === "Closed") return
    const suspect = this.#suspect
    this.#environment.stopConnecting()
    this.#stop()
    for (const connection of Array.from(this.#connections)) {
      if (connection === suspect) connection.abandon()
      else connection.drain()
    }
  }

  /** Calls back when no connection is open. Returns a function that cancels this. */
  onceEmpty(onEmpty: () => void): () => void {
    this.#emptying.add(onEmpty)
    if (this.#connections.size === 0) this.#emptied()
    return () => this.#emptying.delete(onEmpty)
  }

  #emptied(): void {
    const waiting = [...this.#emptying]
    this.#emptying.clear()
    for (const onEmpty of waiting) onEmpty()
  }

  #stop(): void {
    this.#state = "Closed"
    this.#current = undefined
    this.#suspect = undefined
    for (const call of this.#queue) call.reject(Status.CANCELLED, closed)
    this.#settle()
  }

  /** Ends everything. Returns the connections whose sockets have yet to close. */
  close(): ReadonlyArray<Connection> {
    const connections = [...this.#connections]
    this.#connections.clear()
    // A connection that is destroyed must not begin to connect again.
    this.#state = "Closed"
    this.#current = undefined
    for (const connection of connections) connection.destroy(closed)
    this.#stop()
    this.deadlines.close()
    this.#emptied()
    return connections
  }
}

const closed = "the channel was closed"
