import { toJson, type Database } from '../schema.ts'
import type { SigningKeyStore, StoredSigningKey } from '../records/signing-keys.ts'

export const signingKeyStore = (database: Database): SigningKeyStore => ({
  async put(key) {
    const row = {
      kid: key.kid,
      purpose: key.purpose,
      public_jwk: toJson(key.publicJwk),
      sealed: key.sealed,
      created_at: key.createdAt,
      signs_until: key.signsUntil,
      published_until: key.publishedUntil,
    }
    await database
      .insertInto('signing_keys')
      .values(row)
      .onConflict((conflict) => conflict.column('kid').doUpdateSet(row))
      .execute()
  },
  async list() {
    const rows = await database
      .selectFrom('signing_keys')
      .selectAll()
      .orderBy('created_at')
      .orderBy('signs_until')
      .execute()
    return rows.map((row): StoredSigningKey => ({
      kid: row.kid,
      purpose: row.purpose as StoredSigningKey['purpose'],
      publicJwk: JSON.parse(row.public_jwk) as Record<string, unknown>,
      sealed: row.sealed,
      createdAt: Number(row.created_at),
      signsUntil: Number(row.signs_until),
      publishedUntil: Number(row.published_until),
    }))
  },
  async remove(kid) {
    await database.deleteFrom('signing_keys').where('kid', '=', kid).execute()
  },
})
