/**
 * The keys of a cluster. With the prefix `cluster`:
 *
 * - `cluster/runners/HOST:PORT`: the registration of a runner, on its presence lease.
 * - `cluster/machines/N`: the machine id of a runner, on the same lease. Its value is the runner's address.
 * - `cluster/machine`: the machine id that was given out last, without a lease.
 * - `cluster/locks/GROUP:N`: the lock of a shard, on its holder's shard lease. Its value is the holder's address.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"

export interface Keys {
  readonly runners: KeyRange.KeyRange
  readonly runner: (address: string) => string
  readonly machines: KeyRange.KeyRange
  readonly machine: (id: number) => string
  /** The id that a key of `machines` takes. */
  readonly machineOf: (key: string) => number
  readonly lastMachine: string
  readonly locks: KeyRange.KeyRange
  readonly lock: (shardId: string) => string
}

/** The prefix of clusters that do not choose one. */
export const defaultPrefix = "cluster"

export const make = (prefix: string = defaultPrefix): Effect.Effect<Keys, KvError.KvError> => {
  const problem = KeyRange.invalidKey(prefix)
  if (problem !== undefined) {
    const message = `the prefix of a cluster begins its keys, and ${problem}`
    return KvError.fail(new KvError.InvalidRequest({ message }))
  }
  const machines = `${prefix}/machines/`
  return Effect.succeed({
    runners: KeyRange.prefix(`${prefix}/runners/`),
    runner: (address) => `${prefix}/runners/${address}`,
    machines: KeyRange.prefix(machines),
    machine: (id) => `${machines}${id}`,
    machineOf: (key) => Number(key.slice(machines.length)),
    lastMachine: `${prefix}/machine`,
    locks: KeyRange.prefix(`${prefix}/locks/`),
    lock: (shardId) => `${prefix}/locks/${shardId}`
  })
}
