import { createHash, createHmac, pbkdf2 as pbkdf2Callback } from 'node:crypto'
import { promisify } from 'node:util'
import { equalInConstantTime, type Secret } from '#foundation/crypto'

const pbkdf2 = promisify(pbkdf2Callback)

/** Fewer would reveal the password to an eavesdropper (RFC 7677 section 4); more would keep a thread busy for long. */
const [MIN_ITERATIONS, MAX_ITERATIONS] = [4096, 1_000_000]

/** RFC 4013 section 2: spaces become the space, what is not seen goes, and forms that look alike become one. */
const prepared = (password: string): string =>
  password
    .replace(/\p{Zs}|\u200B/gu, ' ')
    .replace(/\p{Default_Ignorable_Code_Point}/gu, '')
    .normalize('NFKC')

const attributesOf = (message: string): Map<string, string> =>
  new Map(message.split(',').map((part) => [part.slice(0, 1), part.slice(2)]))

/**
 * The client's side of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677), without channel binding. The password does not leave; the
 * server has to show that it knows it too.
 * @param options.username empty at PostgreSQL, which takes the one of the startup message
 * @param options.nonce printable ASCII without a comma
 */
export const createScram = (options: { username: string; password: Secret; nonce: string }) => {
  const bare = `n=${options.username.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=${options.nonce}`
  let serverSignature: string | undefined
  return {
    first: (): string => `n,,${bare}`,
    /** @throws Error when the server's first message is none */
    async final(serverFirst: string): Promise<string> {
      const attributes = attributesOf(serverFirst)
      const [nonce = '', salt = '', iterations = ''] = [attributes.get('r'), attributes.get('s'), attributes.get('i')]
      if (attributes.has('m') || !nonce.startsWith(options.nonce) || nonce.length <= options.nonce.length)
        throw new Error("its nonce does not extend the client's")
      if (!/^[A-Za-z0-9+/]+={0,2}$/.test(salt) || !/^[1-9]\d{0,6}$/.test(iterations))
        throw new Error('its salt or its iteration count is malformed')
      if (Number(iterations) < MIN_ITERATIONS || Number(iterations) > MAX_ITERATIONS)
        throw new Error(`its iteration count is ${iterations}; ${MIN_ITERATIONS} to ${MAX_ITERATIONS} are accepted`)
      const salted = await pbkdf2(
        prepared(options.password.reveal()),
        Buffer.from(salt, 'base64'),
        Number(iterations),
        32,
        'sha256',
      )
      const hmac = (key: Uint8Array, text: string): Buffer => createHmac('sha256', key).update(text).digest()
      const clientKey = hmac(salted, 'Client Key')
      const withoutProof = `c=${Buffer.from('n,,').toString('base64')},r=${nonce}`
      const message = `${bare},${serverFirst},${withoutProof}`
      const signature = hmac(createHash('sha256').update(clientKey).digest(), message)
      serverSignature = hmac(hmac(salted, 'Server Key'), message).toString('base64')
      return `${withoutProof},p=${Buffer.from(clientKey.map((byte, at) => byte ^ signature[at]!)).toString('base64')}`
    },
    /** @throws Error when the server does not know the password */
    verify(serverFinal: string): void {
      const given = attributesOf(serverFinal).get('v')
      if (serverSignature === undefined || given === undefined || !equalInConstantTime(given, serverSignature))
        throw new Error('the server has not shown that it knows the password')
    },
  }
}
