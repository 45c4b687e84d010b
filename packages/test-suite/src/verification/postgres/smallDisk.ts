/**
 * A file system of a fixed size, in memory, that only the processes started in it see. The kernel removes it with the last
 * of them, so nothing is left behind.
 *
 * It needs no rights, if the kernel lets users create namespaces: one of users and mounts holds the file system, and one
 * of users inside of it gives its processes a user that is not root, which Postgres refuses to run as.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import type * as Guardian from "../etcd/Guardian.ts"
import { asUnprivileged, unprivileged } from "./processes.ts"

type Command = ReturnType<typeof asUnprivileged>

/** A mounted file system. */
export interface SmallDisk {
  /** The command, executed where the file system is mounted. */
  readonly inside: (command: string, args: ReadonlyArray<string>) => Command
  /** A path there, as other processes reach it. */
  readonly outside: (path: string) => string
}

/** Mounts a file system on an empty directory, for as long as the guardian lives. */
export const make = Effect.fnUntraced(function*(
  guardian: Guardian.Guardian,
  { directory, megabytes }: { readonly directory: string; readonly megabytes: number }
) {
  const mount = `mount -t tmpfs -o size=${megabytes}m,mode=700 tmpfs "$1" && exec tail -f /dev/null`
  const holder = yield* guardian.spawn({
    ...asUnprivileged("unshare", ["--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", directory]),
    env: {},
    stdio: ["ignore", "ignore", "ignore"]
  })
  yield* Effect.repeat(
    Effect.sync(() => holder.ended() !== undefined || isMounted(holder.pid, directory)),
    { until: (done) => done, schedule: Schedule.spaced("5 millis") }
  )
  if (holder.ended() !== undefined) return undefined
  const enter = ["--target", `${holder.pid}`, "--user", "--mount", "--preserve-credentials"]
  const user = ["unshare", "--user", `--map-user=${unprivileged}`, `--map-group=${unprivileged}`]
  const disk: SmallDisk = {
    inside: (command, args) => asUnprivileged("nsenter", [...enter, ...user, command, ...args]),
    outside: (path) => `/proc/${holder.pid}/root${path}`
  }
  return disk
})

const isMounted = (pid: number, directory: string): boolean => {
  try {
    return Fs.readFileSync(`/proc/${pid}/mounts`, "utf8").split("\n").some((line) =>
      line.startsWith(`tmpfs ${Fs.realpathSync(directory)} `)
    )
  } catch {
    return false
  }
}
