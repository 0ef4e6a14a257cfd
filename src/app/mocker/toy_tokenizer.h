/* SPDX-License-Identifier: Apache-2.0 */
/* toy_tokenizer: the mock engine's tokenizer: no vocabulary file, the same ids everywhere. Pure.
 *
 *     0 … 15        special: <s> </s> <|system|> … <|end|>
 *     16 … 271      single bytes
 *     272 … 18549   one, two, three lower-case letters:   a … z, aa … zz, aaa … zzz
 *     18550 … 36827 the same after a space
 *
 * Text is cut from the left: a space that a lower-case letter follows goes with it, up to three
 * lower-case letters make one token, everything else is one token a byte. So text becomes about a
 * quarter as many tokens, and output made of " abc" tokens tokenizes to what it was made of: the
 * next turn of a conversation finds the blocks of the last one's answer. */
#ifndef JR_APP_MOCKER_TOY_TOKENIZER_H
#define JR_APP_MOCKER_TOY_TOKENIZER_H

#include "base/str.h"
#include "wire/tokens.h"

enum jr_toy_token {
    JR_TOY_BOS = 0,
    JR_TOY_EOS = 1,
    JR_TOY_SYSTEM = 2,
    JR_TOY_USER = 3,
    JR_TOY_ASSISTANT = 4,
    JR_TOY_TOOL = 5,
    JR_TOY_END = 6, /* of a message */
    JR_TOY_BYTE = 16,
    JR_TOY_WORD = 272,
    JR_TOY_WORDS = 26 + 26 * 26 + 26 * 26 * 26,
    JR_TOY_SPACE_WORD = JR_TOY_WORD + JR_TOY_WORDS,
    JR_TOY_VOCABULARY = JR_TOY_SPACE_WORD + JR_TOY_WORDS,
    /* A space and three letters: what the engine answers with. */
    JR_TOY_OUTPUT_FIRST = JR_TOY_SPACE_WORD + 26 + 26 * 26,
    JR_TOY_OUTPUTS = 26 * 26 * 26,
};

/* Appends; JR_ELIMIT above JR_PROMPT_TOKENS_MAX, JR_ENOMEM. */
JR_MUST_CHECK int jr_toy_encode(struct jr_tokens *t, const char *text, size_t n);
JR_MUST_CHECK int jr_toy_push(struct jr_tokens *t, uint32_t token);
/* The chat template: <s>, then for each message its role, its text and <|end|>, then <|assistant|>
 * when a generation prompt is asked for. messages is the raw JSON array, tools the raw JSON or
 * empty. Content that is a list counts with its text parts. JR_EINVAL with words for the client
 * when a message has no role; JR_EPROTO when it is no JSON; JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_toy_encode_chat(struct jr_tokens *t, struct jr_str messages,
                                     struct jr_str tools, bool generation_prompt,
                                     struct jr_errmsg *e);
/* Appends the token's text; ids outside the vocabulary read as <|id|>. */
void jr_toy_decode(struct jr_buf *b, uint32_t token);

#endif
