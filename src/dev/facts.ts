/** What a development world consists of. The documentation and the printed text use these names too. */

export const TENANT = 'acme'
export const SERVER = 'my-server'
export const DOWNSTREAM = 'notes-api'

/** Deputy's client at the identity provider, at which users sign in. */
export const SIGN_IN_CLIENT = 'deputy'
/** Deputy's client at the notes service. */
export const SERVICE_CLIENT = 'deputy'
/** The client of `deputy dev token`. */
export const TOKEN_CLIENT = 'deputy-dev-token'

/** The grant of `deputy dev token`: a token for a user whom the caller names. */
export const USER_TOKEN_GRANT = 'urn:deputy:dev:user-token'
/** Lifetime of the token (s). */
export const TOKEN_SECONDS = 3600

export const SCOPES = ['notes:read', 'notes:write'] as const

export const LOOPBACK = '127.0.0.1'
export const originAt = (port: number): string => `http://${LOOPBACK}:${port}`

/** A user of a provider of the world. */
export interface DevUser {
  readonly groups?: readonly string[]
  readonly email?: string
  /** What the sign-in page says beside the name. */
  readonly about?: string
}

/** The users of the company: policy gives them all, some and nothing. */
export const USERS: Readonly<Record<'alice' | 'bob' | 'carol', Required<DevUser>>> = {
  alice: {
    groups: ['engineering'],
    email: 'alice@acme.example',
    about: 'reads and writes notes; has connected the notes service',
  },
  bob: { groups: ['sales'], email: 'bob@acme.example', about: 'reads notes; has to connect the notes service first' },
  carol: { groups: ['contractors'], email: 'carol@acme.example', about: 'gets nothing: no policy permits it' },
}

/** The account of a user of the company at the notes service. */
export const accountOf = (user: string): string => `${user}-notes`
