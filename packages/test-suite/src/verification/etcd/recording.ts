/**
 * A recording of all changes in an etcd store, made by `etcdctl watch`.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Readline from "node:readline"
import { realTime } from "../internal/realTime.ts"
import type { Environment } from "./environment.ts"
import { EtcdClusterError, failure, fromGuardian } from "./EtcdClusterError.ts"
import { etcdctlEnv, parseJson } from "./etcdctl.ts"
import type * as Guardian from "./Guardian.ts"

/**
 * One change, as the store reports it.
 *
 * @since 0.1.0
 */
export interface HistoryEvent {
  readonly type: "put" | "delete"
  readonly key: string
  /** Empty for a delete. */
  readonly value: string
  readonly valueBytes: Uint8Array
  readonly modRevision: bigint
  /** 0 for a delete, like `version` and `lease`. */
  readonly createRevision: bigint
  readonly version: bigint
  readonly lease: bigint
}

/**
 * All changes from one revision on.
 *
 * @since 0.1.0
 */
export interface Recording {
  /**
   * Waits until `revision` is recorded, then returns the changes up to and including it, in order. Fails if the recording
   * failed, for example because the history was compacted, or if it does not reach the revision within 60 seconds.
   */
  readonly upTo: (revision: bigint) => Effect.Effect<ReadonlyArray<HistoryEvent>, EtcdClusterError>
}

/** Records all changes from `revision` on, until the scope closes, across restarts of members. */
export const watchFrom = Effect.fnUntraced(function*(
  environment: Environment,
  endpoints: () => ReadonlyArray<string>,
  revision: bigint
): Effect.fn.Return<Recording, EtcdClusterError, Scope.Scope> {
  const { binaries, guardian } = environment
  const recording = new EtcdctlRecording(revision)
  const spawn = Effect.suspend(() =>
    guardian.spawn({
      command: binaries.etcdctl,
      args: ["watch", `--rev=${recording.next}`, "--prefix", "", "-w", "json"],
      env: etcdctlEnv(environment, endpoints()),
      stdio: ["ignore", "pipe", "pipe"]
    })
  ).pipe(Effect.mapError(fromGuardian("watchFrom")))
  const stop = (guarded: Guardian.Guarded) => Effect.andThen(guarded.signal("SIGKILL"), guarded.end)
  const started = yield* Deferred.make<void, EtcdClusterError>()
  const record = Effect.acquireUseRelease(
    Effect.tap(spawn, () => Deferred.succeed(started, undefined)),
    (guarded) => recording.read(guarded),
    stop
  )
  // `etcdctl watch` exits if its member has no leader. It only prints whole revisions, so the next one resumes after them.
  yield* Effect.repeat(record, { while: () => !recording.isBroken, schedule: Schedule.spaced("100 millis") }).pipe(
    Effect.tapError((error) => Effect.andThen(recording.fail(error), Deferred.fail(started, error))),
    Effect.ignore,
    realTime,
    Effect.forkScoped
  )
  yield* Deferred.await(started)
  return recording satisfies Recording
})

const WatchLine = Schema.Struct({
  Events: Schema.NullOr(Schema.Array(Schema.Struct({
    type: Schema.optionalKey(Schema.String),
    kv: Schema.Struct({
      key: Schema.String,
      value: Schema.optionalKey(Schema.String),
      mod_revision: Schema.String,
      create_revision: Schema.optionalKey(Schema.String),
      version: Schema.optionalKey(Schema.String),
      lease: Schema.optionalKey(Schema.String)
    })
  })))
})

const decodeWatchLine = Schema.decodeUnknownSync(WatchLine)

const eventsOf = (line: string): ReadonlyArray<HistoryEvent> =>
  (decodeWatchLine(parseJson(line)).Events ?? []).map(({ kv, type }) => {
    const valueBytes = Buffer.from(kv.value ?? "", "base64")
    return {
      type: type === "1" ? "delete" : "put",
      key: Buffer.from(kv.key, "base64").toString("utf8"),
      value: valueBytes.toString("utf8"),
      valueBytes,
      modRevision: BigInt(kv.mod_revision),
      createRevision: BigInt(kv.create_revision ?? 0),
      version: BigInt(kv.version ?? 0),
      lease: BigInt(kv.lease ?? 0)
    }
  })

class EtcdctlRecording implements Recording {
  readonly #events: Array<HistoryEvent> = []
  readonly #waiting = new Set<() => void>()
  readonly #first: bigint
  #broken: EtcdClusterError | undefined

  constructor(first: bigint) {
    this.#first = first
  }

  /** The first revision that is not recorded yet. */
  get next(): bigint {
    const last = this.#events.at(-1)?.modRevision
    return last === undefined ? this.#first : last + 1n
  }

  get isBroken(): boolean {
    return this.#broken !== undefined
  }

  /** Records the output of `etcdctl` until it exits. The recording fails only if a new `etcdctl` could not resume it. */
  read(guarded: Guardian.Guarded): Effect.Effect<void> {
    return Effect.callback((resume) => {
      let stderr = ""
      guarded.stderr?.setEncoding("utf8").on("data", (chunk: string) => (stderr = (stderr + chunk).slice(-2000)))
      const lines = Readline.createInterface({ input: guarded.stdout! })
      lines.on("line", (line) => this.#record(line))
      lines.on("close", () => {
        if (!canResume.test(stderr)) this.#break(failure("watchFrom", `etcdctl watch ended: ${stderr.trim()}`))
        resume(Effect.void)
      })
    })
  }

  fail(error: EtcdClusterError): Effect.Effect<void> {
    return Effect.sync(() => this.#break(error))
  }

  upTo(revision: bigint): Effect.Effect<ReadonlyArray<HistoryEvent>, EtcdClusterError> {
    return Effect.callback<ReadonlyArray<HistoryEvent>, EtcdClusterError>((resume) => {
      const check = () => {
        if (this.next > revision) {
          resume(Effect.sync(() => this.#events.filter((event) => event.modRevision <= revision)))
        } else if (this.#broken !== undefined) resume(Effect.fail(this.#broken))
        else return false
        return true
      }
      if (check()) return
      const listener = () => {
        if (check()) this.#waiting.delete(listener)
      }
      this.#waiting.add(listener)
      return Effect.sync(() => this.#waiting.delete(listener))
    }).pipe(
      Effect.timeoutOrElse({
        duration: "60 seconds",
        orElse: () =>
          Effect.fail(
            failure("watchFrom", `revision ${revision} was not recorded in time; the recording is at ${this.next - 1n}`)
          )
      }),
      realTime
    )
  }

  #record(line: string): void {
    if (this.isBroken || line === "") return
    try {
      for (const event of eventsOf(line)) this.#events.push(event)
    } catch (cause) {
      this.#broken = new EtcdClusterError({ operation: "watchFrom", message: "unexpected output of etcdctl", cause })
    }
    this.#wake()
  }

  #break(error: EtcdClusterError): void {
    this.#broken ??= error
    this.#wake()
  }

  #wake(): void {
    for (const listener of this.#waiting) listener()
  }
}

/** Errors after which a new `etcdctl watch` can resume. */
const canResume = /no leader|connection refused|context deadline exceeded|Unavailable/
