/**
 * Reserved connections of the application's pool. A connection executes one statement at a time.
 *
 * To reserve a connection costs about as much of the client's CPU as to execute a statement on it. So a statement that
 * is sent while the caller of the last one resumes, or that waits for its turn, takes over its connection, which is
 * released otherwise.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"

/** A connection, until the scope closes. */
export interface Reservation {
  readonly connection: Connection
  readonly scope: Scope.Closeable
  /** In milliseconds of `performance.now()`. */
  readonly since: number
}

/** What uses a connection. */
export interface Holder {
  reservation: Reservation | undefined
}

/** A connection is taken over for at most so many milliseconds: the application waits for connections of its pool, too. */
const longest = 5

export class Reservations {
  readonly #pg: PgClient.PgClient
  readonly #run: (effect: Effect.Effect<void>) => void
  /** The connections whose statement has ended in this turn of the event loop. */
  readonly #spare: Array<Reservation> = []

  constructor(pg: PgClient.PgClient, run: (effect: Effect.Effect<void>) => void) {
    this.#pg = pg
    this.#run = run
  }

  /**
   * Executes something on a connection. After a success the holder has the connection, and calls `passOn`. After a
   * failure or an interruption it was released.
   */
  use<A>(holder: Holder, f: (connection: Connection) => Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return Effect.suspend(() => {
      const spare = holder.reservation = this.#spare.pop()
      const scope = spare?.scope ?? Scope.makeUnsafe()
      const used = spare !== undefined
        ? f(spare.connection)
        : Effect.flatMap(Scope.provide(this.#pg.reserve, scope), (connection) => {
          holder.reservation = { connection, scope, since: performance.now() }
          return f(connection)
        })
      return Effect.onExitPrimitive(used, (exit) => {
        if (exit._tag === "Success") return undefined
        holder.reservation = undefined
        return Scope.closeUnsafe(scope, exit)
      })
    })
  }

  /**
   * Resumes a caller. A statement that is sent meanwhile, or that had waited for its turn, takes the connection over;
   * otherwise it is released.
   */
  passOn(reservation: Reservation, resume: () => void): void {
    if (performance.now() - reservation.since >= longest) {
      this.#release(reservation)
      return resume()
    }
    this.#spare.push(reservation)
    try {
      resume()
    } finally {
      // In a microtask, because the next statement that waits for its turn starts in one, queued before.
      if (this.#spare.includes(reservation)) queueMicrotask(() => this.#releaseSpare(reservation))
    }
  }

  #releaseSpare(reservation: Reservation): void {
    const at = this.#spare.indexOf(reservation)
    if (at < 0) return
    this.#spare.splice(at, 1)
    this.#release(reservation)
  }

  #release({ scope }: Reservation): void {
    this.#run(Scope.close(scope, Exit.void))
  }
}
