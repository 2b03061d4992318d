"""what a picture shows: the fingerprint by which the same picture is known again

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('images', sa.Column('phash', sa.Text(), nullable=False, server_default=''), schema='po')


def downgrade() -> None:
    op.drop_column('images', 'phash', schema='po')
