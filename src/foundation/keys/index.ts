/** The keys that Deputy signs with: each has a purpose, is published before it signs, and verifies until the last of its tokens has ended. */
export { signJwt } from './sign-jwt.ts'
export { SigningKeys } from './signing-keys.ts'
