/**
 * Instances of the example application as processes, and clients of their API.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Stream from "effect/Stream"
import { fileURLToPath } from "node:url"
import * as Api from "../../src/app/Api.ts"

const program = fileURLToPath(new URL("../../src/app/main.ts", import.meta.url))

/** A client of the instance at this address. */
export const clientOf = (url: string) =>
  Effect.provide(
    HttpApiClient.make(Api.Api, { transformClient: HttpClient.mapRequest(HttpClientRequest.prependUrl(url)) }),
    FetchHttpClient.layer
  )

/** Starts an instance, and waits until it serves. It is killed when the scope closes. */
export const start = Effect.fnUntraced(function*(name: string, env: Record<string, string>) {
  const { KV_URL: _, ...inherited } = process.env
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const child = yield* spawner.spawn(
    ChildProcess.make(process.execPath, [program], {
      env: { ...inherited, INSTANCE: name, ...env },
      killSignal: "SIGKILL"
    })
  )
  const output: Array<string> = []
  const address = yield* Deferred.make<string, Error>()
  yield* child.all.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runForEach((line) => {
      output.push(line)
      const [url] = /http:\/\/[\d.]+:\d+/.exec(line) ?? []
      return url === undefined ? Effect.void : Deferred.succeed(address, url)
    }),
    Effect.exit,
    Effect.andThen(Effect.suspend(() => Deferred.fail(address, new Error(`${name} ended:\n${output.join("\n")}`)))),
    Effect.forkScoped
  )
  const url = yield* Deferred.await(address)
  return { name, url, child, output, api: yield* clientOf(url) }
})

export type Instance = Effect.Success<ReturnType<typeof start>>
