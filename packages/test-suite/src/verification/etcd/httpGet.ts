/**
 * A plain HTTP GET on its own connection, which is closed afterwards. A fixture must not leave pooled sockets behind in a
 * process whose sockets are counted.
 */
import * as Effect from "effect/Effect"
import * as Http from "node:http"

export interface HttpResponse {
  readonly status: number
  readonly body: string
}

/** The response, or `undefined` if there is none within `timeoutMillis`. */
export const httpGet = (url: string, timeoutMillis: number): Effect.Effect<HttpResponse | undefined> =>
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
    // The timeout event fires on inactivity, also while connecting.
    request.on("timeout", () => request.destroy())
    request.on("error", () => resume(Effect.undefined))
    request.on("close", () => resume(Effect.undefined))
    return Effect.sync(() => request.destroy())
  })
