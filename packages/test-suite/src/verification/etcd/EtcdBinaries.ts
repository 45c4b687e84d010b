/**
 * Paths of the etcd binaries that tests start, by version.
 *
 * Environment variables name their directories; `npm test` sets them. Nothing is searched for or downloaded here, so a test
 * never runs against a server by accident.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"

/**
 * The supported versions of etcd.
 *
 * @since 0.1.0
 */
export type Version = "3.7" | "3.6" | "3.5" | "3.4"

/**
 * The binaries of one version, as absolute paths.
 *
 * @since 0.1.0
 */
export interface EtcdBinaries {
  readonly version: Version
  readonly etcd: string
  readonly etcdctl: string
}

/**
 * The binaries of a version are missing. The message says how to get them.
 *
 * @since 0.1.0
 */
export class EtcdBinariesMissing extends Data.TaggedError("EtcdBinariesMissing")<{
  readonly version: string
  readonly message: string
}> {}

/**
 * The versions, newest first.
 *
 * @since 0.1.0
 */
export const versions: readonly [Version, ...ReadonlyArray<Version>] = ["3.7", "3.6", "3.5", "3.4"]

const variables: Readonly<Record<Version, string>> = {
  "3.7": "EFFECT_KV_ETCD_37",
  "3.6": "EFFECT_KV_ETCD_36",
  "3.5": "EFFECT_KV_ETCD_35",
  "3.4": "EFFECT_KV_ETCD_34"
}

/**
 * The versions whose directories are set in the environment, newest first.
 *
 * @since 0.1.0
 */
export const provided: Effect.Effect<ReadonlyArray<Version>> = Effect.sync(() =>
  versions.filter((version) => (process.env[variables[version]] ?? "") !== "")
)

const isExecutable = (file: string): boolean => {
  try {
    Fs.accessSync(file, Fs.constants.X_OK)
    return true
  } catch {
    return false
  }
}

/**
 * The binaries of a version, from the directory in its variable, such as `EFFECT_KV_ETCD_37`.
 *
 * @example
 * ```ts
 * import { EtcdBinaries } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const version = yield* EtcdBinaries.currentVersion
 *   const { etcd } = yield* EtcdBinaries.get(version)
 *   etcd.endsWith("/etcd") // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const get = (version: Version): Effect.Effect<EtcdBinaries, EtcdBinariesMissing> =>
  Effect.suspend(() => {
    const variable = variables[version]
    const directory = process.env[variable]
    const help = `"npm test" provides etcd ${version}; to use your own, set ${variable} to a directory that ` +
      `contains etcd and etcdctl`
    if (directory === undefined || directory === "") {
      return Effect.fail(new EtcdBinariesMissing({ version, message: `${variable} is not set: ${help}` }))
    }
    const etcd = Path.resolve(directory, "etcd")
    const etcdctl = Path.resolve(directory, "etcdctl")
    const missing = [etcd, etcdctl].filter((file) => !isExecutable(file))
    return missing.length === 0
      ? Effect.succeed({ version, etcd, etcdctl })
      : Effect.fail(
        new EtcdBinariesMissing({ version, message: `${missing.join(" and ")} cannot be executed: ${help}` })
      )
  })

/**
 * The version under test: `EFFECT_KV_ETCD`. Default: the newest.
 *
 * @since 0.1.0
 */
export const currentVersion: Effect.Effect<Version, EtcdBinariesMissing> = Effect.suspend(() => {
  const wanted = process.env["EFFECT_KV_ETCD"] ?? versions[0]
  const version = versions.find((version) => version === wanted)
  return version === undefined
    ? Effect.fail(
      new EtcdBinariesMissing({
        version: wanted,
        message: `EFFECT_KV_ETCD is "${wanted}": it must be one of ${versions.join(", ")}`
      })
    )
    : Effect.succeed(version)
})

/**
 * The binaries of the version under test.
 *
 * @since 0.1.0
 */
export const current: Effect.Effect<EtcdBinaries, EtcdBinariesMissing> = Effect.flatMap(currentVersion, get)
