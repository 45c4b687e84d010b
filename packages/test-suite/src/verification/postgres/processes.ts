/**
 * What the processes of Postgres and PgBouncer have in common: they do not run as root, and speak the same protocol.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"

/** `nobody` on Linux. */
export const unprivileged = 65534

export const isRoot = (): boolean => process.getuid?.() === 0

/** The command, as a user that is not root: by `setpriv` of util-linux. */
export const asUnprivileged = (
  command: string,
  args: ReadonlyArray<string>
): { readonly command: string; readonly args: ReadonlyArray<string> } =>
  isRoot()
    ? {
      command: "setpriv",
      args: [`--reuid=${unprivileged}`, `--regid=${unprivileged}`, "--clear-groups", command, ...args]
    }
    : { command, args }

/** Whether any user may pass through all folders above. */
export const isReachable = (path: string): boolean =>
  path === Path.dirname(path) || (Fs.statSync(path).mode & 0o001) !== 0 && isReachable(Path.dirname(path))

/** Whether a server responds. Its response to the request for TLS is one byte, even while it starts; then it closes. */
export const accepts = (port: number): Effect.Effect<boolean> =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect({ port, host: "127.0.0.1" })
    socket.once("error", () => resume(Effect.succeed(false)))
    socket.once("close", () => resume(Effect.succeed(false)))
    socket.once("connect", () => socket.write(startup))
    socket.once("data", (data) => {
      socket.destroy()
      // R: the server authenticates. E: it is starting.
      resume(Effect.succeed(data[0] === 0x52))
    })
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutOrElse({ duration: "1 second", orElse: () => Effect.succeed(false) }))

const startup = (() => {
  const body = new TextEncoder().encode("user\0postgres\0database\0postgres\0\0")
  const message = new Uint8Array(8 + body.length)
  new DataView(message.buffer).setUint32(0, message.length)
  new DataView(message.buffer).setUint32(4, 196608)
  message.set(body, 8)
  return message
})()
