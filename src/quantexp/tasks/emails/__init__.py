"""Customer-support e-mails for the task `extraction`, written by a model behind an OpenAI-compatible server.

- plan: what each e-mail is to be, balanced, and the same for the same seed
- prompt: the words that ask for it, and the schema of the answer
- client: one request, and all that can go wrong with it
- checks: which answers are accepted, and why the others are not
- records: every answer, kept as it comes; the file of e-mails follows from it
- generation: from the plan to the e-mails, several requests at once
- reviews, review_session: what people think of the e-mails, and how they come to say it
- summary, terminal: what is printed

The keys of the two commands are in `config.emails`.
"""
