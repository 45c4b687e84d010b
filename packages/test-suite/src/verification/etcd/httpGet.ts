/**
 * One plain HTTP GET on a connection of its own, which is gone afterwards: a fixture must not leave pooled sockets behind
 * in a process whose sockets are being counted.
 */
import * as Effect from "effect/Effect"
import * as Http from "node:http"

export interface HttpAnswer {
  readonly status: number
  readonly body: string
}

/** The answer, or `undefined` when there was none within `timeoutMillis`. */
export const httpGet = (url: string, timeoutMillis: number): Effect.Effect<HttpAnswer | undefined> =>
  Effect.callback((resume) => {
    const request = Http.get(
      url,
      { agent: false, headers: { connection: "close" }, timeout: timeoutMillis },
      (response) => {
        let body = ""
        response.setEncoding("utf8")
        response.on("data", (chunk: string) => (body += chunk))
        response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, body })))
        response.on("error", () => resume(Effect.undefined))
      }
    )
    // The time-out event fires on inactivity, also while the connection is being made.
    request.on("timeout", () => request.destroy())
    request.on("error", () => resume(Effect.undefined))
    request.on("close", () => resume(Effect.undefined))
    return Effect.sync(() => request.destroy())
  })
