/** A JSON Schema (2020-12) that stands by itself: no reference leads out of it. */
export type JsonSchema = Readonly<Record<string, unknown>>

/**
 * What a client may know of a tool's effects
 * (https://modelcontextprotocol.io/specification/2025-11-25/schema#toolannotations).
 */
export interface Effects {
  readonly readOnly: boolean
  readonly destructive: boolean
  /** The same call again changes nothing more (RFC 9110 section 9.2.2), so it may be sent again after a failure. */
  readonly idempotent: boolean
}

/**
 * An operation of an API as a tool. Plain data: it is compiled on the thread that reads the files, and copied from
 * there.
 */
export interface ApiTool {
  /** Unique in its API; 1 to 64 of A-Z, a-z, 0-9, `_`, `-` and `.`. */
  readonly name: string
  readonly title?: string
  readonly description: string
  /** An object schema of the arguments. */
  readonly inputSchema: JsonSchema
  /** An object schema of the structured content; absent where an answer is not JSON. */
  readonly outputSchema?: JsonSchema
  readonly effects: Effects
  readonly isDeprecated: boolean
  /** Scopes of the downstream that the operation needs. */
  readonly scopes: readonly string[]
  readonly operation: Operation
}

/** How a request is made out of arguments, and how its answer is read. */
export interface Operation {
  /** The operation as people name it: its operationId, else method and path. */
  readonly id: string
  /** In upper case. */
  readonly method: string
  /** Scheme, host and port. */
  readonly origin: string
  /** Path of the server followed by the path template of the document. */
  readonly path: string
  readonly parameters: readonly Parameter[]
  readonly body?: RequestBody
  readonly answers: readonly AnswerForm[]
  /** Structured content is `{ result: ANSWER }`, because the document does not say that the answer is an object. */
  readonly wrapsAnswer: boolean
  readonly limits: CallLimits
  readonly pagination?: Pagination
  /** JSON pointers of the parts that an answer is reduced to; a step `*` stands for each element. Absent: all of it. */
  readonly projection?: readonly string[]
}

export type Place = 'path' | 'query' | 'header' | 'cookie' | 'querystring'

/** https://spec.openapis.org/oas/v3.1.1.html#style-values */
export type Style =
  'matrix' | 'label' | 'simple' | 'form' | 'spaceDelimited' | 'pipeDelimited' | 'deepObject' | 'cookie'

/** Where a parameter's value comes from. */
export type Value =
  | { readonly from: 'argument'; readonly argument: string; readonly default?: unknown }
  /** The file says it, and the caller cannot. */
  | { readonly from: 'file'; readonly value: unknown }

export interface Parameter {
  /** As the API knows it. */
  readonly name: string
  readonly in: Place
  readonly value: Value
  readonly required: boolean
  readonly style: Style
  readonly explode: boolean
  readonly allowReserved: boolean
  /** The value of a path parameter may have slashes: the file of the API says so. */
  readonly slashes?: boolean
  /** Set where `content` describes the parameter: its value is a text of this media type. */
  readonly mediaType?: string
}

/** The body: of the media types that the document takes, the one that a model writes best. */
export interface RequestBody {
  readonly required: boolean
  readonly mediaType: string
  readonly kind: 'json' | 'form' | 'multipart' | 'text' | 'binary'
  /** The arguments that make the body: one for all of it, or one for each property. */
  readonly value: BodyValue
  /** Of form and multipart bodies, by property. */
  readonly encoding: Readonly<Record<string, PropertyEncoding>>
}

export type BodyValue =
  | { readonly from: 'whole'; readonly value: Value }
  | { readonly from: 'properties'; readonly properties: readonly BodyProperty[] }

export interface BodyProperty {
  readonly name: string
  readonly value: Value
}

export interface PropertyEncoding {
  readonly contentType?: string
  readonly style?: Style
  readonly explode?: boolean
  readonly allowReserved?: boolean
  /** The argument is base64, or a data: URI. */
  readonly isBinary?: boolean
}

/** What the document says of an answer. */
export interface AnswerForm {
  /** `200`, `4XX` or `default`. */
  readonly status: string
  readonly mediaTypes: readonly string[]
  /** Of the JSON body; answers that differ are reported. */
  readonly schema?: JsonSchema
}

export interface CallLimits {
  /** ms until the whole answer is there. */
  readonly timeout: number
  /** Bytes of an answer; a longer one is cut (text) or refused (JSON, binary). */
  readonly maxBytes: number
}

/** How the next page of an answer is asked for. */
export type Pagination =
  /** `Link: <...>; rel="next"` (RFC 8288), to the same origin and path only. */
  | { readonly by: 'link'; readonly pages: number; readonly items?: string }
  /** A JSON pointer to the value that the next request sends in a parameter. */
  | {
      readonly by: 'cursor'
      readonly next: string
      readonly parameter: string
      readonly pages: number
      readonly items: string
    }
  | { readonly by: 'page'; readonly parameter: string; readonly pages: number; readonly items: string }

/** A request that is ready for the credential. */
export interface ApiRequest {
  readonly method: string
  readonly origin: string
  /** Without the query. */
  readonly path: string
  /** With its question mark; empty without one. */
  readonly query: string
  /** Names and values in turn. */
  readonly headers: readonly string[]
  readonly body?: Buffer
}

/** An answer as it came, after redaction. */
export interface ApiAnswer {
  readonly status: number
  /** Names in lower case and values in turn. */
  readonly headers: readonly string[]
  readonly body: Buffer
  /** Whether the body goes on beyond the limit. */
  readonly isCut: boolean
}

/** An answer as a tool's result. */
export interface ToolAnswer {
  readonly isError: boolean
  /** An object; present where the tool has an output schema and the answer is JSON. */
  readonly structured?: Readonly<Record<string, unknown>>
  readonly content: readonly ToolContent[]
  /** Where the answer differs from the document: for the log and metrics, never a failure of the call. */
  readonly deviations: readonly string[]
}

export type ToolContent =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'image' | 'audio'; readonly data: string; readonly mimeType: string }
  | {
      readonly type: 'resource'
      readonly resource: { readonly uri: string; readonly mimeType: string; readonly blob: string }
    }
